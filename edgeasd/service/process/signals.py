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
    """Have SIGHUP wait for `follow`, and SIGTERM and SIGINT end the process with a message.

    This is for the part of the start in which there is nothing yet that must end in order.
    """
    signal.signal(signal.SIGHUP, _note)
    for number in _STOPS:
        signal.signal(number, _leave)


def follow(*, stop: Callable[[], None], reload: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT call *stop*, and SIGHUP *reload*, even one that came before."""
    for number in _STOPS:
        signal.signal(number, lambda *_: stop())
    signal.signal(signal.SIGHUP, lambda *_: reload())
    if _hung_up:
        reload()


def _note(_number: int, _frame: FrameType | None) -> None:
    global _hung_up  # noqa: PLW0603 - signals are those of the process
    _hung_up = True


def _leave(number: int, _frame: FrameType | None) -> None:
    # What it interrupts, an import for example, can neither go on nor be unwound.
    os.write(_STDERR, f"edgeasd: stopped by {signal.Signals(number).name} at the start\n".encode())
    os._exit(os.EX_OK)
