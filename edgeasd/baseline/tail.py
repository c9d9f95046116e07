"""Estimates how often a quantity exceeds levels beyond those observed, from few values.

A fitted tail gives a rate at each level, with an interval.  It averages over all parameters that
the values leave possible.  The best parameters alone would give rates that are too low on average,
because tails that come out too short by chance are not balanced by those that come out too long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from edgeasd.common.types import Float64Array

_SHAPES = np.linspace(-0.5, 0.7, 61)
"""Shapes to average over."""
_SCALES = np.exp(np.linspace(-2.5, 2.5, 81))
"""Scales to average over, as multiples of the mean excess.  A factor of ``exp(2.5)`` either way
covers all scales that even a few values leave possible."""
_PRIOR_MEAN, _PRIOR_SPREAD = -0.1, 0.1
"""Prior of the shape.  The score is a distance of a mean over ten seconds, whose tail is nearly
that of a normal distribution; at the levels used that resembles a shape of -0.1.  Two days of four
fans gave -0.08 to -0.2."""
_RATE_QUANTILES = (np.arange(40) + 0.5) / 40
"""Quantiles of the rate of peaks that stand for its whole distribution."""
_LEAST_GAP = 1e-12
"""Least mean excess, so that equal peaks do not give a scale of zero."""
_LEAST_WEIGHT = 1e-6
"""Parameters of less weight, relative to the likeliest, are dropped: they only cost time."""
_EXPONENTIAL = 1e-9
"""Shapes nearer to zero than this are treated as the exponential distribution."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate of events, events per second.

    Attributes:
        expected: Mean over all rates that the values leave possible.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    expected: float
    low: float
    high: float


def poisson_rate(n_events: float, duration_s: float, dispersion: float = 1.0) -> Rate:
    """Return the rate of events if *n_events* were observed in *duration_s* seconds.

    Args:
        n_events: Number of events.
        duration_s: Length of the observation, seconds.
        dispersion: Variance of counts over their mean; above 1 if events come in bursts.

    References:
        Brown, Cai and DasGupta (2003), Interval estimation in exponential families: Jeffreys.
    """
    shape = n_events / dispersion + 0.5
    low, high = stats.gamma.ppf([0.025, 0.975], shape) * dispersion / duration_s
    return Rate(shape * dispersion / duration_s, float(low) if n_events else 0.0, float(high))


class ParetoTail:
    """Peaks over a level, whose excess follows a generalised Pareto distribution.

    Args:
        level: Level that the peaks exceed.
        peaks: Independent values above the level, shape ``(n_peaks,)``, at least 2.
        duration_s: Length of the observation, seconds.
        dispersion: Variance of the counts of peaks over their mean.  Peaks that come in bursts are
            weighted down by it.

    Attributes:
        level: Level that the peaks exceed.
        n_peaks: Number of peaks.
        top: Highest peak.

    References:
        Davison and Smith (1990), Models for exceedances over high thresholds; Coles (2001), An
        Introduction to Statistical Modeling of Extreme Values, sections 4.2 and 9.1.
    """

    def __init__(
        self, level: float, peaks: Float64Array, duration_s: float, dispersion: float = 1.0
    ) -> None:
        self.level = level
        self.n_peaks = len(peaks)
        self.top = float(peaks.max())
        excess = peaks - level
        typical = max(float(excess.mean()), _LEAST_GAP)
        shape, scale = np.meshgrid(_SHAPES, typical * _SCALES, indexing="ij")
        self._shape, self._scale = shape.ravel(), scale.ravel()
        fit = sum(_log_density(value, self._shape, self._scale) for value in excess)
        log_weight = fit / dispersion - 0.5 * np.square((self._shape - _PRIOR_MEAN) / _PRIOR_SPREAD)
        weight = special.softmax(log_weight)
        possible = weight > _LEAST_WEIGHT * weight.max()
        self._shape, self._scale = self._shape[possible], self._scale[possible]
        self._weight = weight[possible] / weight[possible].sum()
        counts = stats.gamma.ppf(_RATE_QUANTILES, len(peaks) / dispersion + 0.5)
        self._rates = counts * dispersion / duration_s

    def rate(self, level: float) -> Rate:
        """Return how often *level* is exceeded; it must be at least that of the peaks."""
        survival = _survival(level - self.level, self._shape, self._scale)
        expected = float(self._weight @ survival) * float(self._rates.mean())
        possible = np.multiply.outer(survival, self._rates).ravel()
        weight = np.repeat(self._weight, len(self._rates)) / len(self._rates)
        order = np.argsort(possible)
        ends = np.searchsorted(np.cumsum(weight[order]), [0.025, 0.975])
        low, high = possible[order][np.minimum(ends, len(order) - 1)]
        return Rate(expected, float(low), float(high))

    def expected(self, level: float) -> float:
        """Return the expected rate without its interval, which is quick to compute."""
        survival = _survival(level - self.level, self._shape, self._scale)
        return float(self._weight @ survival) * float(self._rates.mean())


def _log_density(excess: float, shape: Float64Array, scale: Float64Array) -> Float64Array:
    inner = 1.0 + shape * excess / scale
    with np.errstate(divide="ignore", invalid="ignore"):
        general = np.where(inner > 0, -(1.0 + 1.0 / shape) * np.log(inner), -np.inf)
    exponential = np.abs(shape) < _EXPONENTIAL
    result: Float64Array = np.where(exponential, -excess / scale, general) - np.log(scale)
    return result


def _survival(excess: float, shape: Float64Array, scale: Float64Array) -> Float64Array:
    inner = np.maximum(1.0 + shape * excess / scale, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        general = np.power(inner, -1.0 / shape)
    survival: Float64Array = np.where(
        np.abs(shape) < _EXPONENTIAL, np.exp(-excess / scale), general
    )
    return survival
