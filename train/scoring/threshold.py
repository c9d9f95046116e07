"""The first threshold of a model, from few scores of normal sound that was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from edgeasd.common.errors import EdgeasdError

_ENOUGH = 10
"""Scores that a section needs for a spread of its own, which then has a 90 % interval of -27 to
+65 %."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Scores of a section at which an alarm starts, and below which it ends."""

    threshold: float
    clear_threshold: float


def choose_thresholds(
    scores: Sequence[Sequence[float]], tail_probability: float
) -> list[Threshold]:
    """Return a threshold for each section.

    It is the upper prediction bound of one further score under Student's t,
    ``mean + t(1 - tail_probability, df) * s * sqrt(1 + 1 / n)``.  A handful of scores says little
    about the tail, and so the bound is wide.  Sections with fewer than ten scores share their
    spread, pooled within sections; one without any takes mean and spread of all scores.  The clear
    threshold is half way from the mean to the threshold.

    It is a start: scores of normal sound are not normally distributed, and only ``edgeasd
    calibrate`` with recordings of the machine itself gives a rate of false alarms.

    Args:
        scores: Held-out scores of each section.
        tail_probability: Probability that a score of normal sound is above the threshold.

    Raises:
        EdgeasdError: If no section has two scores.

    References:
        Hahn and Meeker (1991), Statistical Intervals, section 4.8: prediction of one observation.
    """
    sections = [np.asarray(section, float) for section in scores]
    df = sum(max(len(section) - 1, 0) for section in sections)
    if df == 0:
        raise EdgeasdError(
            "normal clips that nothing was learned from must be at least two in one section, for "
            "a threshold; record more normal sound"
        )
    pooled = np.sqrt(sum(len(one) * one.var() for one in sections if len(one)) / df)
    everything = np.concatenate(sections)
    thresholds = []
    for section in sections:
        if len(section) >= _ENOUGH:
            one = _bound(section, section.std(ddof=1), len(section) - 1, tail_probability)
        elif len(section) > 0:
            one = _bound(section, pooled, df, tail_probability)
        else:
            one = _bound(everything, everything.std(ddof=1), df, tail_probability)
        thresholds.append(one)
    return thresholds


def _bound(
    scores: np.ndarray[tuple[int], np.dtype[np.float64]],
    spread: float,
    df: int,
    tail_probability: float,
) -> Threshold:
    mean = float(scores.mean())
    reach = float(stats.t.isf(tail_probability, df) * spread * np.sqrt(1.0 + 1.0 / len(scores)))
    return Threshold(mean + reach, mean + reach / 2.0)
