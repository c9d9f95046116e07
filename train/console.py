"""Progress bars of the trainer, on standard error if that is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

_T = TypeVar("_T")

console = Console(stderr=True)
"""Console on standard error, where progress is shown."""


def tracked(items: Iterable[_T], title: str, n_items: int) -> Iterator[_T]:
    """Yield *items*, with a progress bar named *title* if standard error is a terminal."""
    if not console.is_terminal:
        return iter(items)
    return iter(track(items, title, n_items, console=console, transient=True))
