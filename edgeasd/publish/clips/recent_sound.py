"""The last seconds of a machine's sound, from which clips are cut."""

from __future__ import annotations

import numpy as np

from edgeasd.capture.circular import CircularArray
from edgeasd.common.types import AudioBlock, Int16Array, to_int16


class RecentSound:
    """Keeps the latest samples of a stream, by position; lost sound reads as silence.

    For one thread.

    Args:
        capacity: Number of samples kept.
    """

    def __init__(self, capacity: int) -> None:
        self._samples = CircularArray(capacity)
        self._start: int | None = None
        self.end_sample = 0
        """Position just after the latest sample."""

    def process(self, block: AudioBlock) -> None:
        """Add *block*, which must be later than all before it."""
        if self._start is None:
            self._start = self.end_sample = block.first_sample
        n_lost = block.first_sample - self.end_sample
        if n_lost > 0:
            self._write(np.zeros(min(n_lost, self._samples.capacity), np.int16), block.first_sample)
        values = to_int16(block.samples)
        end_sample = block.first_sample + values.size
        self._write(values[-self._samples.capacity :], end_sample)

    def cut(self, first_sample: int, end_sample: int) -> Int16Array:
        """Return the samples from *first_sample* to before *end_sample*, as far as they are kept.

        Returns:
            Shape ``(n_samples,)``; shorter, or empty, where the sound began later, is no longer
            kept, or has not been heard yet.
        """
        oldest = max(self._start or 0, self.end_sample - self._samples.capacity)
        first, end = max(first_sample, oldest), min(end_sample, self.end_sample)
        return self._samples.read(first, max(0, end - first))

    def _write(self, values: Int16Array, end_sample: int) -> None:
        self._samples.write(end_sample - values.size, values)
        self.end_sample = end_sample
