"""Delivers recorded or simulated sound in real time."""

from __future__ import annotations

import threading
import time


class Pace:
    """Waits until samples are due.

    Deadlines count from the first call, so that a late block does not delay the next ones.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._start_s: float | None = None
        self._stopped = threading.Event()

    def wait(self, end_sample: int, timeout_s: float) -> bool:
        """Wait until a device would have delivered all samples before *end_sample*.

        Returns:
            Whether the samples are due within *timeout_s* seconds; false if the pace was stopped.
        """
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s
        delay_s = self._start_s + end_sample / self._sample_rate - now_s
        if delay_s <= 0.0:
            return not self._stopped.is_set()
        stopped = self._stopped.wait(max(0.0, min(delay_s, timeout_s)))
        return not stopped and delay_s <= timeout_s

    def late_s(self, end_sample: int) -> float:
        """Return for how many seconds all samples before *end_sample* have been due."""
        if self._start_s is None:
            return 0.0
        return max(0.0, time.monotonic() - self._start_s - end_sample / self._sample_rate)

    def stop(self) -> None:
        """End a wait at once; later waits return false."""
        self._stopped.set()
