"""Stops many listeners in the time of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from edgeasd.service.machine.listener import Listener


def stop_all(listeners: Sequence[Listener], timeout_s: float) -> None:
    """Stop *listeners* side by side, and wait *timeout_s* seconds for all of them together.

    A device that hangs, or a file on a disk that does, holds up those who close it.
    """
    for listener in listeners:
        listener.ask_to_stop()
    deadline_s = time.monotonic() + timeout_s
    closing = []
    for listener in listeners:
        thread = threading.Thread(
            target=listener.stop, args=(timeout_s,), name=f"stop-{listener.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads may be had
            listener.stop(max(0.0, deadline_s - time.monotonic()))
        else:
            closing.append(thread)
    for thread in closing:
        thread.join(max(0.0, deadline_s - time.monotonic()))
