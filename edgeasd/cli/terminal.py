"""What the commands draw: lines, bars, and a picture that stays put.

Drawing needs a terminal that can move its cursor; `can_draw` says whether there is one.  Whatever
is drawn is cleaned first.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from edgeasd.common.text import printable

if TYPE_CHECKING:
    pass

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-=+*#@"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a picture.

    Attributes:
        text: What it says; cut to the width of the terminal.
        colour: Of the whole line, as `click.style` knows it; None for the terminal's own.
    """

    text: str
    colour: str | None = None


def can_draw(stream: TextIO) -> bool:
    """Whether *stream* is a terminal on which what was written can be drawn over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """A picture that each `draw` replaces, at the end of what the terminal shows already."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._n_drawn = 0

    @property
    def n_lines(self) -> int:
        """Lines that a picture may have."""
        return max(2, shutil.get_terminal_size().lines - 1)  # the cursor stands on one of its own

    def draw(self, lines: Sequence[Line]) -> None:
        """Show *lines* in place of those before; of more than fit, the first ones."""
        width, n_most = shutil.get_terminal_size().columns, self.n_lines
        if len(lines) > n_most:
            n_hidden = len(lines) - n_most + 1
            lines = [*lines[: n_most - 1], Line(f"... and {n_hidden} lines more")]
        up = f"\x1b[{self._n_drawn}A" if self._n_drawn else ""
        # Each line is cleared to its end only after it is written, so that nothing flickers.
        text = "".join(
            f"{click.style(fitted(line.text, width - 1), fg=line.colour)}\x1b[K\n" for line in lines
        )
        self._stream.write(f"\r{up}{text}\x1b[J")
        self._stream.flush()
        self._n_drawn = len(lines)

    def say(self, text: str) -> None:
        """Put *text*, to stay, in place of the picture; the next one goes below it."""
        up = f"\x1b[{self._n_drawn}A" if self._n_drawn else ""
        self._stream.write(f"\r{up}{printable(text)}\x1b[K\n\x1b[J")
        self._stream.flush()
        self._n_drawn = 0


def fitted(text: str, n_columns: int) -> str:
    """Return as much of *text*, made printable, as *n_columns* of a terminal hold.

    A letter of East Asia takes two, a mark on a letter none.
    """
    text = printable(text)
    if text.isascii():
        return text[:n_columns]
    ends = itertools.accumulate(map(_n_columns, text))
    return "".join(character for character, end in zip(text, ends, strict=True) if end <= n_columns)


def _n_columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:
        # But for the one that makes the sign before it a picture, which is wide.
        return 1 if character == "\ufe0f" else 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def bar(value: float, low: float, high: float, width: int, *, full: str = "#") -> str:
    """Return *value* between *low* and *high* as a bar, padded to *width*."""
    share = (value - low) / (high - low) if math.isfinite(value) else 0.0
    return (full * round(width * min(1.0, max(0.0, share)))).ljust(width)


def sparkline(values: Sequence[float], low: float, high: float, *, ascii_only: bool) -> str:
    """Return *values* as a line of blocks, of which the lowest is *low* and the highest *high*."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    step = (high - low) / len(blocks) or 1.0
    # In this order no number, and none that is not one, is beyond the blocks.
    return "".join(
        blocks[int(min(len(blocks) - 1, max(0.0, (value - low) / step)))] for value in values
    )


def takes_blocks(stream: TextIO) -> bool:
    """Whether *stream* can show what `sparkline` draws other than in ASCII."""
    return (stream.encoding or "").lower().replace("-", "") == "utf8"
