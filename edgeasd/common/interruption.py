"""Ctrl-C and SIGTERM as a request to stop, which long work honours at its next step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Interruption:
    """Whether Ctrl-C or SIGTERM has requested an end.

    Attributes:
        requested: True from the first signal on.
    """

    requested = False

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Have Ctrl-C and SIGTERM request an end rather than cause it; only in the main thread."""
    asked = Interruption()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, asked._request) for number in numbers]  # noqa: SLF001
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
