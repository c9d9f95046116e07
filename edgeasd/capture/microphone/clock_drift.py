"""How fast the clock of a device runs, compared with the computer's."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

_NONE = (math.inf, 0.0)
_PERIOD_S = 10.0
"""Seconds of which only the arrival with the least delay counts."""
_MOST_PERIODS = 60
"""Periods that an estimate rests on at most: ten minutes leave less than 1 ppm of doubt."""
_LEAST_PERIODS = 12
"""Periods that an estimate rests on at least: if arrivals scatter by 1 ms, two minutes leave some
5 ppm of doubt."""


class ClockDriftMeter:
    """Estimates the drift of a device from when its samples arrive.

    Sound is never early but often late.  Of every ten seconds, only the arrival with the least
    delay counts.  The drift is the median of the slopes between all of those in the last ten
    minutes (Theil and Sen), so a busy minute of the computer does not move it.

    Args:
        sample_rate: Sample rate that the device claims, hertz.

    Attributes:
        ppm: Parts per million by which the device is fast; negative if it is slow.  NaN until two
            minutes of unbroken sound have come, and from then on the latest estimate.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        # Delay and time of the least delayed arrival, in each period that is over and in this one.
        self._points: deque[tuple[float, float]] = deque(maxlen=_MOST_PERIODS)
        self._least = _NONE
        self._period_end_s = -math.inf
        self._n_samples = 0
        self.ppm = math.nan

    def count(self, n_samples: int, now_s: float) -> None:
        """Take note that *n_samples* more arrived at *now_s*, by any clock that does not jump."""
        self._n_samples += n_samples
        delay_s = now_s - self._n_samples / self._sample_rate
        self._least = min(self._least, (delay_s, now_s))
        if now_s >= self._period_end_s:
            self._period_end_s = now_s + _PERIOD_S
            self._points.append(self._least)
            self._least = _NONE
            self._estimate()

    def reset(self) -> None:
        """Begin anew after sound was lost; `ppm` stays until there is a better estimate."""
        self._n_samples = 0
        self._period_end_s = -math.inf
        self._least = _NONE
        self._points.clear()

    def _estimate(self) -> None:
        if len(self._points) < _LEAST_PERIODS:
            return
        delays_s, times_s = np.array(self._points).T
        earlier, later = np.triu_indices(len(self._points), 1)
        slopes = (delays_s[later] - delays_s[earlier]) / (times_s[later] - times_s[earlier])
        self.ppm = -1e6 * float(np.median(slopes))
