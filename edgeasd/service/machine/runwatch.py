"""Ends the run of a network that is lost in a window, so that nothing else ends with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgeasd.detect.pipeline import Pipeline

LONGEST_RUN_S = 5.0
"""Of a network on one window.  The ring of a microphone holds twice as much sound."""


class RunWatch:
    """Knows whether a thread's pipeline gets from window to window.

    One thread works; another looks, again and again.
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

    @property
    def busy(self) -> bool:
        """Whether a pipeline works."""
        return self._work is not None

    def end(self) -> None:
        """End the run of the network that goes on, if any."""
        work = self._work
        if work is not None:
            work[0].control.stopped = True

    def end_stuck(self) -> None:
        """End the run of the network if it is the same one since many looks."""
        work = self._work
        if work is None:
            return
        pipeline, began_s = work
        seen, now = (began_s, pipeline.windows), time.monotonic()
        if seen != self._seen:
            self._seen, self._seen_s = seen, now
        elif now - self._seen_s > LONGEST_RUN_S:
            pipeline.control.stopped = True
