"""Signals to the daemon, from its first line on: the start takes seconds on a busy computer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

_STOPS = (signal.SIGTERM, signal.SIGINT)
_STDERR = 2
_hung_up = False


def hold() -> None:
    """Have SIGHUP wait for `follow`, and SIGTERM and SIGINT end the process with a word.

    For the part of the start in which there is nothing to end in order yet.
    """
    signal.signal(signal.SIGHUP, _note)
    for number in _STOPS:
        signal.signal(number, _leave)


def follow(*, stop: Callable[[], None], reload: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT call *stop*, and SIGHUP *reload*, also one that waited until now."""
    for number in _STOPS:
        signal.signal(number, lambda *_: stop())
    signal.signal(signal.SIGHUP, lambda *_: reload())
    if _hung_up:
        reload()


def _note(_number: int, _frame: FrameType | None) -> None:
    global _hung_up  # noqa: PLW0603 - a signal is the process's
    _hung_up = True


def _leave(number: int, _frame: FrameType | None) -> None:
    # Whatever it interrupts, an import for example, is in no state to go on or to be unwound.
    os.write(_STDERR, f"edgeasd: stopped by {signal.Signals(number).name} at the start\n".encode())
    os._exit(os.EX_OK)
