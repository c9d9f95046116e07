"""What is printed: every line is cleaned here, and no other module calls `click.echo`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from typing import Any

import click

from edgeasd.common.text import printable

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What a cell starts with that a spreadsheet takes for a formula, and runs."""


def say(text: str, *, err: bool = False) -> None:
    """Print *text* as one line, on standard output or standard error."""
    # Named, since click would look past what rich puts in its place while a bar is drawn.
    file = sys.stderr if err else None
    click.echo(printable(text), file)  # noqa: TID251  # this module is the one place for it


def say_json(value: Any, indent: int | None = None) -> None:
    """Print *value* as JSON on standard output, in ASCII whatever its strings hold."""
    # json.dumps escapes all that is not printable ASCII but for DEL.
    text = json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
    click.echo(text)  # noqa: TID251  # as above


def say_rows(rows: Iterable[dict[str, Any]], form: str) -> None:
    """Print *rows*, which have the same keys, on standard output.

    Args:
        rows: The rows; ``file`` is the name of a file.
        form: ``jsonl`` for JSON lines, or ``csv``.
    """
    writer = csv.writer(_CsvOutput(), lineterminator="\n")
    for index, row in enumerate(rows):
        if form == "jsonl":
            say_json(row)
            continue
        if index == 0:
            writer.writerow(row)
        is_formula = row["file"].startswith(_FORMULA_STARTS)
        writer.writerow({**row, "file": f"./{row['file']}" if is_formula else row["file"]}.values())


class _CsvOutput:
    """Standard output as the file of a CSV writer; only a terminal gets cleaned file names."""

    def write(self, line: str) -> None:
        sys.stdout.write(f"{printable(line[:-1])}\n" if sys.stdout.isatty() else line)
