"""What the commands print and draw: lines, bars, durations, and a picture that stays put.

Drawing needs a terminal that can move its cursor; `can_draw` says whether there is one.  Nothing is
printed or drawn but by this module, which cleans it: no other calls `click.echo`.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import signal
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgeasd.text import printable

if TYPE_CHECKING:
    from types import FrameType

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


def say(text: str, *, err: bool = False) -> None:
    """Print *text* as one line, on standard output or standard error."""
    click.echo(printable(text), err=err)  # noqa: TID251  # this module is the one place for it


def say_json(value: Any, indent: int | None = None) -> None:
    """Print *value* as JSON on standard output: in ASCII, whatever stands in its strings."""
    # Of the characters that are no text, the last of ASCII alone is left as it is.
    text = json.dumps(value, indent=indent).replace("\x7f", "\\u007f")
    click.echo(text)  # noqa: TID251  # as above


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


def clock_time(duration_s: float) -> str:
    """Return a duration as hours, minutes and seconds, for example ``1:05:09``."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def rounded(value: float, n_digits: int) -> str:
    """Return *value* to so many digits, for people: ``110`` and ``15510`` rather than powers."""
    return f"{float(f'{value:.{n_digits}g}'):.12g}"


def rough_time(duration_s: float) -> str:
    """Return a duration in its largest units, for example ``3 d 4 h``, ``12 min`` or ``0.4 s``."""
    if duration_s < 10.0:  # noqa: PLR2004
        return f"{max(0.0, duration_s):.1f} s"
    n_minutes, n_hours, n_days = (round(duration_s // unit) for unit in (60, 3_600, 86_400))
    if n_days:
        return f"{n_days} d {n_hours % 24} h"
    if n_hours:
        return f"{n_hours} h {n_minutes % 60} min"
    return f"{n_minutes} min" if n_minutes else f"{duration_s:.0f} s"


class Interruption:
    """Whether somebody asked for the end."""

    requested = False

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Let Ctrl-C and SIGTERM ask for the end, rather than bring it; for the main thread."""
    asked = Interruption()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, asked._request) for number in numbers]  # noqa: SLF001
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
