"""The last seconds of a machine's sound, from which clips are cut."""

from __future__ import annotations

import numpy as np

from edgeasd.common.types import AudioBlock, Int16Array, to_int16


class RecentSound:
    """Keeps the latest samples of a stream, by position; lost sound reads as silence.

    For one thread.

    Args:
        capacity: Number of samples kept.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity} must be at least 1")
        self._samples: Int16Array = np.zeros(capacity, np.int16)
        self._start: int | None = None
        self.end_sample = 0
        """Position just after the latest sample."""

    def process(self, block: AudioBlock) -> None:
        """Add *block*, which must be later than all before it."""
        if self._start is None:
            self._start = self.end_sample = block.first_sample
        n_lost = block.first_sample - self.end_sample
        if n_lost > 0:
            self._write(np.zeros(min(n_lost, self._samples.size), np.int16), block.first_sample)
        values = to_int16(block.samples)
        end_sample = block.first_sample + values.size
        self._write(values[-self._samples.size :], end_sample)

    def cut(self, first_sample: int, end_sample: int) -> Int16Array:
        """Return the samples from *first_sample* to before *end_sample*, as far as they are kept.

        Returns:
            Shape ``(n_samples,)``; shorter, or empty, where the sound began later, is no longer
            kept, or has not been heard yet.
        """
        oldest = max(self._start or 0, self.end_sample - self._samples.size)
        first, end = max(first_sample, oldest), min(end_sample, self.end_sample)
        # By slices: positions one by one would be ten times the size of the samples.
        n_samples, start = max(0, end - first), first % self._samples.size
        n_wrapped = max(0, start + n_samples - self._samples.size)
        pieces = self._samples[start : start + n_samples], self._samples[:n_wrapped]
        return np.concatenate(pieces)

    def _write(self, values: Int16Array, end_sample: int) -> None:
        start = (end_sample - values.size) % self._samples.size
        n_before_wrap = min(values.size, self._samples.size - start)
        self._samples[start : start + n_before_wrap] = values[:n_before_wrap]
        self._samples[: values.size - n_before_wrap] = values[n_before_wrap:]
        self.end_sample = end_sample
