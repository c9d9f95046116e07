"""Does a calibration still fit?  It does not where scores drifted, or alarms come far too often."""

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
_LEAST_ALARMS = 4
"""One rare noise may raise the alarm twice or three times: false alarms come in bursts."""


@dataclass(frozen=True, slots=True)
class AlarmCount:
    """How often the alarm was raised lately.

    Attributes:
        raised: Alarms that began in the last day of sound.
        hours: Hours of sound that it rests on, at most 24.
        foreseen: As many at most, by the upper end of the calibration's interval.
        too_many: Whether there are more than chance would bring.
    """

    raised: int
    hours: float
    foreseen: float
    too_many: bool


class AlarmCounter:
    """Compares how often the alarm is raised with what its calibration foresaw.

    It says that there are too many if in the last day of sound it was raised four times or more,
    and chance brings so many once in a thousand times (Poisson), at the upper end of the interval.

    Args:
        high_per_week: False alarms a week at most, by the calibration.
        sample_rate: Of positions, hertz.
    """

    def __init__(self, high_per_week: float, sample_rate: int) -> None:
        self._rate = high_per_week / (_WEEK_S * sample_rate)
        self._sample_rate = sample_rate
        self._day = _DAY_S * sample_rate
        # Samples of sound behind the scores so far: time without sound is no time in which an alarm
        # could have come.
        self._heard = 0
        self._end = 0
        self._starts: deque[int] = deque()

    def process(self, detection: Detection) -> None:
        """Take what the alarm made of a score."""
        score = detection.score
        self._heard += score.end_sample - max(score.first_sample, self._end)
        self._end = score.end_sample
        if detection.event is not None and detection.event.type == "start":
            self._starts.append(self._heard)
        while self._starts and self._starts[0] <= self._heard - self._day:
            self._starts.popleft()

    @property
    def count(self) -> AlarmCount | None:
        """What the last day says; `None` before the first score."""
        if not self._heard:
            return None
        heard = min(self._heard, self._day)
        raised, foreseen = len(self._starts), heard * self._rate
        hours = heard / (_HOUR_S * self._sample_rate)
        too_many = raised >= _LEAST_ALARMS and _chance_of(raised, foreseen) < _SIGNIFICANCE
        return AlarmCount(raised, hours, foreseen, too_many)


@dataclass(frozen=True, slots=True)
class Fit:
    """How a calibration fits what came after it.

    Attributes:
        drift: How the scores moved; `None` when not known yet.
        alarms: How often the alarm was raised; `None` when not known yet, or where the calibration
            does not say how often it should be.
    """

    drift: Drift | None
    alarms: AlarmCount | None


def _chance_of(n: int, expected: float) -> float:
    """Return how probable *n* events or more are, where *expected* are expected (Poisson)."""
    if expected <= 0.0:
        return 0.0
    # By logarithms: of a thousand events neither power nor factorial is a float.
    log_expected = math.log(expected)
    fewer = (math.exp(k * log_expected - expected - math.lgamma(k + 1)) for k in range(n))
    return 1.0 - math.fsum(fewer)
