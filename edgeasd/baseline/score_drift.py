"""Has the normal score moved since calibration?  Slowly, where an alarm would not notice."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeasd.common.types import Score

QUANTILES = (0.05, 0.5, 0.95)
"""Of the scores at calibration, that later ones are compared with."""

_BLOCK_S = 3600
_N_BLOCKS = 24
_LEAST_BLOCKS = 12
_SIGNIFICANCE = 0.001
_LEAST_SHIFT = 0.5


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the scores of the last day lie from those of the calibration.

    Attributes:
        shift: Difference of the medians, in units of half the range from 5 to 95 % of the scores at
            calibration; positive is less normal.
        hours: Hours of sound that it rests on, at most 24.
        drifted: Whether this is more than chance and more than a little.
    """

    shift: float
    hours: int
    drifted: bool


class ScoreDriftMeter:
    """Compares the median score of each hour with the scores at calibration.

    It says that they drifted if the median over the last hours, 12 to 24 of them, moved by half of
    what scores vary, and so many hours lie on the same side of the calibration's median as chance
    brings once in a thousand times (sign test).  Nothing is adapted by it.

    Args:
        quantiles: Of the scores at calibration, at `QUANTILES`.
        sample_rate: Of positions, hertz.
    """

    def __init__(self, quantiles: Sequence[float], sample_rate: int) -> None:
        low, self._median, high = quantiles
        self._half_range = max((high - low) / 2.0, 1e-9)
        self._block = _BLOCK_S * sample_rate
        self._medians: deque[float] = deque(maxlen=_N_BLOCKS)
        self._scores: list[float] = []
        self._free_from = 0
        self._n_samples = 0

    def process(self, score: Score) -> None:
        """Take *score*; one that overlaps the last one taken is passed over."""
        if score.first_sample < self._free_from:
            return
        self._free_from = score.end_sample
        self._scores.append(score.value)
        self._n_samples += score.n_samples
        if self._n_samples >= self._block:
            self._medians.append(float(np.median(self._scores)))
            self._scores = []
            self._n_samples = 0

    @property
    def drift(self) -> Drift | None:
        """What the last hours say; `None` before the first one."""
        # Another thread asks than the one that scores: a copy, which no new hour can break into.
        medians = list(self._medians)
        if not medians:
            return None
        n_hours = len(medians)
        shift = (float(np.median(medians)) - self._median) / self._half_range
        n_above = sum(median > self._median for median in medians)
        enough = n_hours >= _LEAST_BLOCKS and abs(shift) >= _LEAST_SHIFT
        return Drift(shift, n_hours, enough and _sign_test(n_above, n_hours) < _SIGNIFICANCE)


def _sign_test(n_above: int, n: int) -> float:
    """Return how probable it is that chance puts as many of *n* on one side, or more."""
    n_far = max(n_above, n - n_above)
    return min(1.0, 2.0 * sum(math.comb(n, k) for k in range(n_far, n + 1)) / 2.0**n)
