"""How often a quantity goes beyond what was seen of it: tails fitted to few values, with doubt.

A fitted tail is a rate at each level, and how sure that rate is.  All parameters that the values
leave open are averaged over: the best ones alone promise too little, as a tail that came out too
short by chance is never made up for by one that came out too long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from edgeasd.common.types import Float64Array

_SHAPES = np.linspace(-0.5, 0.7, 61)
_SCALES = np.exp(np.linspace(-2.5, 2.5, 81))
"""Of the mean excess; few values leave a scale open by more than a factor of ten nowhere."""
_PRIOR_MEAN, _PRIOR_SPREAD = -0.1, 0.1
"""Of the shape.  A distance of ten seconds' mean has nearly a normal distribution's tail, which at
levels of practice looks like one of shape -0.1; two days of four fans gave -0.08 to -0.2."""
_RATE_QUANTILES = (np.arange(40) + 0.5) / 40
_LEAST_GAP = 1e-12
_LEAST_WEIGHT = 1e-6
"""Of parameters, over that of the likeliest: the rest changes nothing, and costs time."""
_EXPONENTIAL = 1e-9
"""Shapes nearer to 0 than this are 0."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Events per second.

    Attributes:
        expected: The mean of what the values leave possible.
        low: Lower end of the 95 % interval.
        high: Its upper end.
    """

    expected: float
    low: float
    high: float


def poisson_rate(n_events: float, duration_s: float, dispersion: float = 1.0) -> Rate:
    """Return the rate of events of which *n_events* happened in *duration_s* seconds.

    Args:
        n_events: Events.
        duration_s: Seconds.
        dispersion: Variance of counts over their mean; above 1 where events come in bursts.

    References:
        Brown, Cai and DasGupta (2003), Interval estimation in exponential families: Jeffreys.
    """
    shape = n_events / dispersion + 0.5
    low, high = stats.gamma.ppf([0.025, 0.975], shape) * dispersion / duration_s
    return Rate(shape * dispersion / duration_s, float(low) if n_events else 0.0, float(high))


class ParetoTail:
    """Peaks over a level: they come at a rate, and their excess is of generalised Pareto form.

    Args:
        level: What the peaks exceed.
        peaks: Independent values above it, shape ``(n_peaks,)``, at least 2.
        duration_s: Seconds in which they came.
        dispersion: Variance of their counts over the mean; what they tell counts that much less.

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
        """Return how often *level*, at least that of the peaks, is exceeded."""
        survival = _survival(level - self.level, self._shape, self._scale)
        expected = float(self._weight @ survival) * float(self._rates.mean())
        possible = np.multiply.outer(survival, self._rates).ravel()
        weight = np.repeat(self._weight, len(self._rates)) / len(self._rates)
        order = np.argsort(possible)
        ends = np.searchsorted(np.cumsum(weight[order]), [0.025, 0.975])
        low, high = possible[order][np.minimum(ends, len(order) - 1)]
        return Rate(expected, float(low), float(high))

    def expected(self, level: float) -> float:
        """Return the mean rate alone, which is quick."""
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
