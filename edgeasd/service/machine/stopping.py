"""Stops many machines in the time of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Protocol


class Stoppable(Protocol):
    """What can be asked to stop before it is waited for."""

    @property
    def name(self) -> str:
        """Name for the thread that stops it."""

    def ask_to_stop(self) -> None:
        """Have it end soon."""

    def stop(self, timeout_s: float) -> None:
        """Wait until it has ended, at most *timeout_s* seconds."""


def stop_all(machines: Sequence[Stoppable], timeout_s: float) -> None:
    """Stop *machines* side by side, and wait *timeout_s* seconds for all of them together.

    A device that hangs, or a file on a disk that does, holds up whoever closes it.
    """
    for machine in machines:
        machine.ask_to_stop()
    deadline_s = time.monotonic() + timeout_s
    closing = []
    for machine in machines:
        thread = threading.Thread(
            target=machine.stop, args=(timeout_s,), name=f"stop-{machine.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads may be had
            machine.stop(max(0.0, deadline_s - time.monotonic()))
        else:
            closing.append(thread)
    for thread in closing:
        thread.join(max(0.0, deadline_s - time.monotonic()))
