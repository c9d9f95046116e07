"""Checks whether a calibration still fits: the scores may have drifted, or alarms be too many."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from edgeasd.baseline.score_drift import Drift
from edgeasd.detect.pipeline import Detection

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S
_WEEK_S = 7 * _DAY_S
_SIGNIFICANCE = 0.001
"""Probability below which the number of alarms is no longer put down to chance."""
_LEAST_ALARMS = 4
"""Fewer alarms are never too many: one rare noise may raise the alarm two or three times."""


@dataclass(frozen=True, slots=True)
class AlarmCount:
    """How often the alarm was raised in the last day of sound.

    Attributes:
        raised: Alarms that started in the last day of sound.
        hours: Hours of sound counted, at most 24.
        foreseen: Alarms expected in that time, by the upper end of the calibration's interval.
        too_many: Whether more alarms were raised than chance explains.
    """

    raised: int
    hours: float
    foreseen: float
    too_many: bool


class AlarmCounter:
    """Compares how often the alarm is raised with the rate that its calibration foresaw.

    Alarms are too many if four or more were raised in the last day of sound, and chance would raise
    so many less than once in a thousand days (Poisson, at the upper end of the interval).

    Args:
        high_per_week: Upper end of the calibration's interval, false alarms a week.
        sample_rate: Sample rate that positions are counted at, hertz.
    """

    def __init__(self, high_per_week: float, sample_rate: int) -> None:
        self._rate = high_per_week / (_WEEK_S * sample_rate)
        self._sample_rate = sample_rate
        self._day = _DAY_S * sample_rate
        # Samples that were scored so far: an alarm cannot be raised while there is no sound.
        self._heard = 0
        self._end = 0
        self._starts: deque[int] = deque()

    def process(self, detection: Detection) -> None:
        """Take the next detection."""
        score = detection.score
        self._heard += score.end_sample - max(score.first_sample, self._end)
        self._end = score.end_sample
        if detection.event is not None and detection.event.type == "start":
            self._starts.append(self._heard)
        while self._starts and self._starts[0] <= self._heard - self._day:
            self._starts.popleft()

    @property
    def count(self) -> AlarmCount | None:
        """Count of the last day of sound; `None` before the first score."""
        if not self._heard:
            return None
        heard = min(self._heard, self._day)
        raised, foreseen = len(self._starts), heard * self._rate
        hours = heard / (_HOUR_S * self._sample_rate)
        too_many = raised >= _LEAST_ALARMS and _chance_of(raised, foreseen) < _SIGNIFICANCE
        return AlarmCount(raised, hours, foreseen, too_many)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a calibration fits the sound since.

    Attributes:
        drift: Drift of the scores; `None` if not known yet.
        alarms: Count of alarms; `None` if not known yet, or if the calibration does not say how
            many to expect.
    """

    drift: Drift | None
    alarms: AlarmCount | None


def _chance_of(n: int, expected: float) -> float:
    """Return the probability of *n* events or more if *expected* are expected (Poisson)."""
    if expected <= 0.0:
        return 0.0
    # By logarithms, because power and factorial of a thousand events overflow.
    log_expected = math.log(expected)
    fewer = (math.exp(k * log_expected - expected - math.lgamma(k + 1)) for k in range(n))
    return 1.0 - math.fsum(fewer)
