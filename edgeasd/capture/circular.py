"""An array that holds the latest samples of a stream, by position."""

from __future__ import annotations

import numpy as np

from edgeasd.common.types import Int16Array


class CircularArray:
    """Mono 16-bit samples; each new one takes the place of the oldest.

    The array is made at the start; `write` allocates no other.

    Args:
        capacity: Number of samples held.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity} must be at least 1")
        self.capacity = capacity
        self._samples: Int16Array = np.zeros(capacity, np.int16)

    def write(self, position: int, samples: Int16Array) -> None:
        """Store *samples*, at most `capacity` of them, from *position* on."""
        start = position % self.capacity
        n_before_wrap = min(samples.size, self.capacity - start)
        self._samples[start : start + n_before_wrap] = samples[:n_before_wrap]
        self._samples[: samples.size - n_before_wrap] = samples[n_before_wrap:]

    def read(self, position: int, n_samples: int) -> Int16Array:
        """Return a copy of *n_samples* samples, at most `capacity`, from *position* on."""
        # By slices: an index for each sample would take ten times the memory of the samples.
        start = position % self.capacity
        n_wrapped = max(0, start + n_samples - self.capacity)
        return np.concatenate([self._samples[start : start + n_samples], self._samples[:n_wrapped]])
