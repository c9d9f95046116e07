"""Stops many monitors in the time of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from edgeasd.monitor import Monitor


def stop_all(monitors: Sequence[Monitor], timeout_s: float) -> None:
    """Stop *monitors* side by side, and wait *timeout_s* seconds for all of them together.

    A device that hangs, or a file on a disk that does, holds up those who close it.
    """
    for monitor in monitors:
        monitor.ask_to_stop()
    deadline_s = time.monotonic() + timeout_s
    closing = []
    for monitor in monitors:
        thread = threading.Thread(
            target=monitor.stop, args=(timeout_s,), name=f"stop-{monitor.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads may be had
            monitor.stop(max(0.0, deadline_s - time.monotonic()))
        else:
            closing.append(thread)
    for thread in closing:
        thread.join(max(0.0, deadline_s - time.monotonic()))
