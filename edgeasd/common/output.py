"""What is printed: every line is cleaned here, and no other module calls `click.echo`."""

from __future__ import annotations

import json
from typing import Any

import click

from edgeasd.common.text import printable


def say(text: str, *, err: bool = False) -> None:
    """Print *text* as one line, on standard output or standard error."""
    click.echo(printable(text), err=err)  # noqa: TID251  # this module is the one place for it


def say_json(value: Any, indent: int | None = None) -> None:
    """Print *value* as JSON on standard output: in ASCII, whatever stands in its strings."""
    # Of the characters that are no text, the last of ASCII alone is left as it is.
    text = json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
    click.echo(text)  # noqa: TID251  # as above
