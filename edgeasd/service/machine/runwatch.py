"""Ends a run of a network that does not return, so that nothing else has to end with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgeasd.detect.pipeline import Pipeline

LONGEST_RUN_S = 5.0
"""Seconds that a network may take for one window: half of what the ring of a microphone holds."""


class RunWatch:
    """Watches whether a pipeline gets from window to window.

    One thread works in `of`; another calls `end_stuck` again and again.
    """

    def __init__(self) -> None:
        self._work: tuple[Pipeline, float] | None = None
        self._seen: tuple[float, int] | None = None
        self._seen_s = 0.0

    @contextmanager
    def of(self, pipeline: Pipeline) -> Iterator[None]:
        """Watch over *pipeline*, which works in the ``with`` block."""
        self._work = pipeline, time.monotonic()
        try:
            yield
        finally:
            self._work = None

    def end(self) -> None:
        """End the run of the network that goes on, if there is one."""
        work = self._work
        if work is not None:
            work[0].control.stopped = True

    def end_stuck(self) -> None:
        """End the run of the network if it has been the same one for longer than it may take."""
        work = self._work
        if work is None:
            return
        pipeline, began_s = work
        seen, now = (began_s, pipeline.windows), time.monotonic()
        if seen != self._seen:
            self._seen, self._seen_s = seen, now
        elif now - self._seen_s > LONGEST_RUN_S:
            pipeline.control.stopped = True
