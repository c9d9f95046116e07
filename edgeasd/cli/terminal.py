"""What the commands draw on a terminal, by rich: pictures that replace themselves, and progress.

Foreign text is never read as markup: a picture consists of `Text`, cleaned by `line`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from edgeasd.common.text import printable

_REDRAWS_PER_S = 4
_LONGEST_BAR, _BESIDE_BAR = 40, 34
"""Columns of a progress bar on a wide terminal, and of all that stands beside it."""


def can_draw(stream: TextIO) -> bool:
    """Whether *stream* is a terminal on which what was written can be replaced."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def console_on(stream: TextIO) -> Console:
    """Return a console that draws on *stream*, if it can, whatever the environment says."""
    return Console(file=stream, force_terminal=can_draw(stream), markup=False, highlight=False)


def line(text: str, colour: str = "") -> Text:
    """Return *text*, made printable, as a line that is cut at the edge of the terminal."""
    return Text(printable(text), colour, no_wrap=True, overflow="crop")


@contextmanager
def picture_on(stream: TextIO, *, transient: bool = False) -> Iterator[Live | None]:
    """Yield a picture, empty at first, that is drawn by its `update`; None if it cannot be.

    What is printed on standard error meanwhile stays above the picture.

    Args:
        stream: Where it is drawn.
        transient: Whether the picture disappears at the end.
    """
    if not can_draw(stream):
        yield None
        return
    with Live(
        console=console_on(stream),
        auto_refresh=False,
        transient=transient,
        redirect_stdout=False,
        vertical_overflow="crop",
    ) as live:
        yield live


def progress_bar(*, hidden: bool = False) -> Progress:
    """Return a progress bar on standard error; it shows nothing if that is no terminal.

    What is printed on standard error meanwhile stays above the bar, which disappears at the end.

    Args:
        hidden: Whether to show nothing on a terminal either.
    """
    console = console_on(sys.stderr)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(max(4, min(_LONGEST_BAR, console.width - _BESIDE_BAR))),
        TaskProgressColumn("{task.percentage:>3.0f} %", markup=False),
        _TimeLeftColumn(),
        console=console,
        refresh_per_second=_REDRAWS_PER_S,
        transient=True,
        redirect_stdout=False,
        disable=hidden or not can_draw(sys.stderr),
    )


@contextmanager
def progress(
    title: str, total: float | None, *, hidden: bool = False
) -> Iterator[Callable[[float], None]]:
    """Show how much of *total* is done and the time left, on standard error if a terminal.

    Args:
        title: What is done.
        total: How much there is to do, in any unit; None if nobody knows.
        hidden: Whether to show nothing on a terminal either.

    Yields:
        A function that takes how much was done since its last call.
    """
    with progress_bar(hidden=hidden) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


class _TimeLeftColumn(TimeRemainingColumn):
    """Hours, minutes and seconds left, as far as they can be told."""

    def render(self, task: Task) -> Text:
        """Return the text of the column."""
        return super().render(task).append(" left") if task.total else Text("")
