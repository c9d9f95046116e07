"""The terminal: tables on stdout; progress bars on stderr, where they are shown at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

_T = TypeVar("_T")

console = Console(stderr=True)
"""For progress; bars are drawn on a terminal only."""


def tracked(items: Iterable[_T], title: str, n_items: int) -> Iterator[_T]:
    """Yield *items*, with a progress bar named *title* while they last, if on a terminal."""
    if not console.is_terminal:
        return iter(items)
    return iter(track(items, title, n_items, console=console, transient=True))
