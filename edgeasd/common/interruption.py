"""Ctrl-C and SIGTERM as a wish for the end, which long work fulfils when it can."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


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
