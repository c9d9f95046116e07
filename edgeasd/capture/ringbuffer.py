"""Passes sound from the thread that reads a device to the thread that scores it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeasd.capture.circular import CircularArray

if TYPE_CHECKING:
    from edgeasd.common.types import Int16Array


@dataclass(slots=True)
class _Run:
    """Consecutive samples in the ring, without a gap."""

    first_sample: int
    n_samples: int


class RingBuffer:
    """Holds mono 16-bit samples for one writing and one reading thread.

    Every sample has a position in the stream.  Lost samples have positions too, so the reader sees
    a loss as a jump in ``first_sample``.

    When the ring is full, the *oldest* samples are dropped: a listener that fell behind must report
    what the machine does now, and the writer must never wait, because the device would lose sound.

    Args:
        capacity: Number of samples that fit.
    """

    def __init__(self, capacity: int) -> None:
        self._samples = CircularArray(capacity)
        self._n_written = 0
        self._n_unread = 0
        self._runs: deque[_Run] = deque([_Run(0, 0)])
        self._dropped_since_read = False
        self._overruns = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def overruns(self) -> int:
        """How often samples were lost: gaps marked, and times that the reader fell behind."""
        return self._overruns

    @property
    def n_unread(self) -> int:
        """Number of samples that have not been read."""
        return self._n_unread

    def write(self, samples: Int16Array) -> None:
        """Append *samples*, shape ``(n_samples,)``; never waits for the reader.

        Raises:
            ValueError: If *samples* is longer than the ring.
        """
        capacity = self._samples.capacity
        if samples.size > capacity:
            raise ValueError(f"n_samples={samples.size} must be at most capacity={capacity}")
        with self._changed:
            self._drop(self._n_unread + samples.size - capacity)
            self._samples.write(self._n_written, samples)
            self._n_written += samples.size
            self._n_unread += samples.size
            self._runs[-1].n_samples += samples.size
            self._changed.notify()

    def mark_gap(self, n_lost: int) -> None:
        """Record that *n_lost* samples were lost here; pass 1 if the number is unknown.

        Raises:
            ValueError: If *n_lost* is less than 1.
        """
        if n_lost < 1:
            raise ValueError(f"n_lost={n_lost} must be at least 1")
        with self._changed:
            last = self._runs[-1]
            self._runs.append(_Run(last.first_sample + last.n_samples + n_lost, 0))
            self._forget_empty_runs()
            self._overruns += 1

    def read(self, max_samples: int, timeout_s: float) -> tuple[Int16Array, int] | None:
        """Return the oldest samples and the position of the first of them.

        Args:
            max_samples: Largest number to return; samples never reach across a gap.
            timeout_s: Seconds to wait while the ring is empty.

        Returns:
            Shape ``(n_samples,)`` with at least one sample, and its position; `None` if no sample
            came in time, or if the ring is empty and closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._n_unread or self._closed, timeout_s)
            if not self._n_unread:
                return None
            run = self._runs[0]
            first_sample = run.first_sample
            n_samples = min(max_samples, run.n_samples)
            samples = self._samples.read(self._n_written - self._n_unread, n_samples)
            self._discard(n_samples)
            self._dropped_since_read = False
        return samples, first_sample

    def close(self) -> None:
        """Wake a waiting `read`; samples in the ring can still be read."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _drop(self, n_samples: int) -> None:
        if n_samples <= 0:
            return
        # For the reader it is one loss, however many writes it spans.
        if not self._dropped_since_read:
            self._overruns += 1
        self._dropped_since_read = True
        while n_samples > 0:
            n_dropped = min(n_samples, self._runs[0].n_samples)
            self._discard(n_dropped)
            n_samples -= n_dropped

    def _discard(self, n_samples: int) -> None:
        run = self._runs[0]
        run.first_sample += n_samples
        run.n_samples -= n_samples
        self._n_unread -= n_samples
        self._forget_empty_runs()

    def _forget_empty_runs(self) -> None:
        while len(self._runs) > 1 and self._runs[0].n_samples == 0:
            self._runs.popleft()
