"""Detects that normal scores have moved since calibration, too slowly to raise an alarm."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeasd.common.types import Score

QUANTILES = (0.05, 0.5, 0.95)
"""Quantiles of the scores at calibration that later scores are compared with."""

_BLOCK_S = 3600
_N_BLOCKS = 24
_LEAST_BLOCKS = 12
_SIGNIFICANCE = 0.001
"""Probability below which a shift is no longer put down to chance."""
_LEAST_SHIFT = 0.5
"""Smallest shift that counts as drift, in the unit of `Drift.shift`."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the scores of the last day lie from those of the calibration.

    Attributes:
        shift: Difference of the medians, in units of half the range from 5 to 95 % of the scores at
            calibration; positive is less normal.
        hours: Hours of sound compared, at most 24.
        drifted: Whether the shift is large, and larger than chance explains.
    """

    shift: float
    hours: int
    drifted: bool


class ScoreDriftMeter:
    """Compares the median score of each hour with the scores at calibration.

    Scores have drifted if the median of the last 12 to 24 hours has moved by at least half of their
    usual spread, and chance would put so many of these hours on one side of the calibration's
    median less than once in a thousand times (sign test).  The meter only reports; it adapts
    nothing.

    Args:
        quantiles: Quantiles of the scores at calibration, at `QUANTILES`.
        sample_rate: Sample rate that positions are counted at, hertz.
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
        """Take *score*, unless it overlaps the last score that was taken."""
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
        """Drift over the last hours; `None` before the first full hour."""
        # A copy, because another thread scores while this one reads.
        medians = list(self._medians)
        if not medians:
            return None
        n_hours = len(medians)
        shift = (float(np.median(medians)) - self._median) / self._half_range
        n_above = sum(median > self._median for median in medians)
        enough = n_hours >= _LEAST_BLOCKS and abs(shift) >= _LEAST_SHIFT
        return Drift(shift, n_hours, enough and _sign_test(n_above, n_hours) < _SIGNIFICANCE)


def _sign_test(n_above: int, n: int) -> float:
    """Return the probability that chance puts so many of *n* on one side, or more."""
    n_far = max(n_above, n - n_above)
    return min(1.0, 2.0 * sum(math.comb(n, k) for k in range(n_far, n + 1)) / 2.0**n)
