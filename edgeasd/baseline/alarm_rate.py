"""Sets a threshold by scores of normal sound: expected false alarms, with their uncertainty.

The alarm is raised when a number of consecutive scores reach the threshold, that is, when the least
of them does: the *sustained* score.  It then lasts until the sound is quiet again, and a cool-down
follows.  If the sound holds enough false alarms, they are counted with the alarm itself.  If not,
their rate is taken from a tail fitted to the peaks of the sustained score: the highest value of
each cluster.  Because scores overlap, values closer together than a score is long are one cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeasd.baseline.tail import ParetoTail, Rate, poisson_rate
from edgeasd.common.types import Float64Array, Score
from edgeasd.detect.alarm import Alarm, AlarmSpec

WEEK_S = 604_800.0
ENOUGH_ALARMS = 10
"""From this number on false alarms are counted; the rate is then known to a factor of two."""
FEW_DECISIONS = 300
"""With fewer decisions a fitted tail is little more than a guess."""
LEAST_DECISIONS = 20
"""With fewer decisions no threshold is set."""

_PEAK_SHARE = 0.15
"""Number of peaks for the tail, as a share of the decisions."""
_LEAST_PEAKS = 10
"""Least number of peaks for the tail."""
_BASE_SHARES = np.geomspace(1e-4, 0.5, 60)
"""Shares of the sustained scores that lie above the levels tried for the peaks."""
_N_STRETCHES = 10
"""Parts of the sound whose counts of peaks give the dispersion."""
_N_BISECTIONS = 50
"""Halvings of the range in which the threshold is searched: to the precision of a float."""
_FACTOR_2 = np.log(2.0)


@dataclass(frozen=True, slots=True, eq=False)
class NormalScores:
    """Scores of normal sound.

    Attributes:
        runs: Consecutive scores of each recording without a gap, shape ``(n_scores,)``.
        hop: Samples from score to score.
        span: Samples that a score rests on.
        sample_rate: Sample rate, hertz.
    """

    runs: Sequence[Float64Array]
    hop: int
    span: int
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Seconds of sound that were scored."""
        return sum(map(len, self.runs)) * self.hop / self.sample_rate

    @property
    def decisions(self) -> int:
        """Number of scores that could be taken from the sound without overlap."""
        return int(self.duration_s * self.sample_rate / self.span)

    @property
    def values(self) -> Float64Array:
        """All scores, shape ``(n_scores,)``."""
        return np.concatenate(self.runs)


def sustained(scores: Float64Array, n_scores: int) -> Float64Array:
    """Return the least of every *n_scores* consecutive scores.

    Returns:
        Shape ``(len(scores) - n_scores + 1,)``; empty if there are fewer scores.
    """
    if len(scores) < n_scores:
        return np.empty(0)
    least: Float64Array = np.lib.stride_tricks.sliding_window_view(scores, n_scores).min(axis=1)
    return least


def count_alarms(scores: NormalScores, spec: AlarmSpec) -> int:
    """Return how often a real alarm would start in *scores*; each run begins with a new alarm."""
    return sum(_count_in_run(run, scores, spec) for run in scores.runs)


def _count_in_run(run: Float64Array, scores: NormalScores, spec: AlarmSpec) -> int:
    alarm = Alarm(spec)
    n_alarms = position = 0
    reached = np.flatnonzero(sustained(run, spec.raise_after) >= spec.threshold)
    for end in reached + spec.raise_after - 1:
        if end < position:
            continue
        # Scores in between change nothing, except the one that ended the last run of high scores.
        position = max(position, end - spec.raise_after)
        while position <= end or (alarm.active and position < len(run)):
            event = alarm.process(Score(run[position], position * scores.hop, scores.span))
            n_alarms += event is not None and event.type == "start"
            position += 1
    return n_alarms


class AlarmRate:
    """How often normal sound raises the alarm at each threshold.

    Args:
        scores: Scores of normal sound that the model was not learned from.
        spec: Run lengths and cool-down of the alarm; its thresholds are ignored.

    Attributes:
        duration_s: Seconds of sound that were scored.
        decisions: Number of scores without overlap.
        dispersion: Variance over mean of the number of peaks in a tenth of the sound, at least 1.
        tail: Tail fitted to the peaks.

    Raises:
        ValueError: If there are fewer decisions than `LEAST_DECISIONS`.
    """

    def __init__(self, scores: NormalScores, spec: AlarmSpec) -> None:
        self._scores = scores
        self._spec = spec
        self._median = float(np.median(scores.values))
        self.duration_s = scores.duration_s
        # Scores further apart than this share no sound.
        self._apart = -(-scores.span // scores.hop)
        self.decisions = scores.decisions
        if self.decisions < LEAST_DECISIONS:
            raise ValueError(f"decisions={self.decisions} must be at least {LEAST_DECISIONS}")
        self._sustained = [sustained(run, spec.raise_after) for run in scores.runs]
        level, peaks, places = self._choose_peaks()
        self.dispersion = _dispersion(places, sum(map(len, self._sustained)))
        self.tail = ParetoTail(level, peaks, self.duration_s, self.dispersion)

    def clear_threshold(self, threshold: float) -> float:
        """Return the clear threshold: half way from the median score to *threshold*."""
        return min((self._median + threshold) / 2.0, threshold)

    def count(self, threshold: float) -> int:
        """Return how many alarms the sound would have raised at *threshold*."""
        clear_threshold = self.clear_threshold(threshold)
        spec = replace(self._spec, threshold=threshold, clear_threshold=clear_threshold)
        return count_alarms(self._scores, spec)

    def at(self, threshold: float) -> tuple[Rate, str]:
        """Return the rate at *threshold*, and its origin, ``counted`` or ``tail``."""
        count = self.count(threshold)
        if count >= ENOUGH_ALARMS or threshold < self.tail.level:
            return poisson_rate(count, self.duration_s, self.dispersion), "counted"
        return self.tail.rate(threshold), "tail"

    def threshold(self, budget: float) -> float:
        """Return the least threshold at which no more than *budget* alarms a second are expected.

        The expectation is the mean over all rates that the sound leaves possible, so that the
        budget is kept on average over many calibrated machines.
        """
        if budget * self.duration_s >= ENOUGH_ALARMS:
            low, high = self._median, self.tail.top
            return _fall_to(
                lambda level: poisson_rate(self.count(level), self.duration_s).expected,
                low,
                high,
                budget,
            )
        reach = self.tail.top - self.tail.level
        return _fall_to(
            self.tail.expected, self.tail.level, self.tail.level + 100.0 * reach, budget
        )

    def _choose_peaks(self) -> tuple[float, Float64Array, Float64Array]:
        """Return the level of the tail, the peaks above it, and their positions."""
        wanted = max(_LEAST_PEAKS, round(_PEAK_SHARE * self.decisions))
        everything = np.concatenate(self._sustained)
        best: tuple[float, Float64Array, Float64Array] | None = None
        for level in np.quantile(everything, 1.0 - _BASE_SHARES):
            peaks, places = self._peaks(level)
            if best is None or len(peaks) > len(best[1]):
                best = float(level), peaks, places
            if len(peaks) >= wanted:
                break
        assert best is not None
        return best

    def _peaks(self, level: float) -> tuple[Float64Array, Float64Array]:
        """Return the highest sustained score of each cluster above *level*, and its position."""
        peaks, places, offset = [], [], 0
        for values in self._sustained:
            above = np.flatnonzero(values >= level)
            cuts = np.flatnonzero(np.diff(above) > self._apart) + 1
            for cluster in np.split(above, cuts) if len(above) else []:
                peaks.append(values[cluster].max())
                places.append(offset + cluster[0])
            offset += len(values)
        return np.array(peaks), np.array(places, np.float64)


def sound_to_factor_2(rate: Rate, duration_s: float) -> float:
    """Return the seconds of sound with which the interval of *rate* would end at twice the rate.

    On a logarithmic scale, the width of the interval falls with the square root of the duration.
    """
    width = np.log(rate.high / rate.expected)
    return float(duration_s * max(1.0, (width / _FACTOR_2) ** 2))


def _fall_to(function: Callable[[float], float], low: float, high: float, target: float) -> float:
    """Return the least argument in [low, high] at which *function* has fallen to *target*."""
    if function(low) <= target:
        return low
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2.0
        if function(middle) > target:
            low = middle
        else:
            high = middle
    return high


def _dispersion(places: Float64Array, n_places: int) -> float:
    """Return variance over mean of the counts of *places* in tenths of the sound, at least 1."""
    counts, _ = np.histogram(places, bins=_N_STRETCHES, range=(0, n_places))
    return max(1.0, float(counts.var(ddof=1) / counts.mean()))
