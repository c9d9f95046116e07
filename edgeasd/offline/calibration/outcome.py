"""The outcome of a calibration, and its report in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeasd.baseline.alarm_rate import (
    FEW_DECISIONS,
    WEEK_S,
    AlarmRate,
    NormalScores,
    sound_to_factor_2,
)
from edgeasd.baseline.tail import Rate
from edgeasd.common.text import rounded
from edgeasd.models.calibration_file import Calibration

OVERRIDDEN = (
    "warning: alarm.threshold in the configuration overrides this calibration; remove that key"
)
_LARGEST_EXCESS = 3.0
"""A budget counts as supported if the interval ends at no more than this multiple of it."""
_LONGEST_REACH = 100.0
"""A budget counts as supported if it allows an alarm in no more than this multiple of the sound.
Further out, the expectation rests on the rare long tails, which lie beyond the interval."""
_NEGLIGIBLE = 0.001
"""Share of the expected rate below which the lower end of the interval is shown as 0."""
_HOUR_S = 3_600.0
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A calibration that was made.

    Attributes:
        calibration: The new version.
        rates: How often normal sound raises the alarm at each threshold.
        scores: The scores of normal sound that it was made from.
        path: Path of the calibration file.
        overridden: Whether the configuration sets a threshold, which overrides the calibration.
        notes: What else the user must know about the sound.
    """

    calibration: Calibration
    rates: AlarmRate
    scores: NormalScores
    path: Path
    overridden: bool
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return in words what was found, and how far it can be trusted."""
        made = self.calibration
        lines = [
            *self.notes,
            f"normal sound: {_duration(made.sound_s)}, {made.decisions} independent decisions",
            f"threshold {rounded(made.threshold, 4)}, "
            f"clear threshold {rounded(made.clear_threshold, 4)}",
            self._expectation(),
            *self._doubts(),
        ]
        if self.overridden:
            lines.append(OVERRIDDEN)
        return [
            *lines,
            f"stored as version {made.number} in {self.path}; the daemon uses it within seconds",
        ]

    def _expectation(self) -> str:
        made = self.calibration
        unit, per_week = _unit(made.expected_per_week)
        is_none = made.low_per_week < _NEGLIGIBLE * made.expected_per_week
        rates = (
            made.expected_per_week,
            0.0 if is_none else made.low_per_week,
            made.high_per_week,
        )
        expected, low, high = (rounded(rate / per_week, 2) for rate in rates)
        source = (
            "counted in this sound"
            if made.method == "counted"
            else f"estimated from the {made.fit['peaks']} highest peaks"
        )
        return (
            f"expected false alarms: {expected} {unit} (95 % interval: {low} to {high} {unit}), "
            f"{source}; budget: {per_time(made.budget_per_week)}"
        )

    def _doubts(self) -> Iterator[str]:
        """Yield what the sound is too short for, and how much would be enough."""
        made = self.calibration
        rate = Rate(made.expected_per_week, made.low_per_week, made.high_per_week)
        reach_s = WEEK_S / made.budget_per_week / _LONGEST_REACH
        needed_s = max(sound_to_factor_2(rate, made.sound_s), reach_s)
        if needed_s > made.sound_s:
            yield (
                f"with about {_duration(needed_s)} of normal sound, the estimate would be good to "
                "a factor of two"
            )
        if rate.high > _LARGEST_EXCESS * made.budget_per_week or made.sound_s < reach_s:
            yield (
                f"warning: this sound is too short to confirm {per_time(made.budget_per_week)}: "
                "the threshold is set for that, but more false alarms cannot be ruled out"
            )
        if made.decisions < FEW_DECISIONS:
            yield (
                f"warning: {made.decisions} independent decisions are few, at least "
                f"{FEW_DECISIONS} are recommended; take the threshold as a first guess"
            )


def per_time(per_week: float) -> str:
    """Return a rate in words, in the unit that is easiest to imagine."""
    unit, in_a_week = _unit(per_week)
    return f"{rounded(per_week / in_a_week, 2)} {unit}"


def _unit(per_week: float) -> tuple[str, float]:
    """Return the unit in which a rate is easiest to imagine, and its worth in events a week."""
    for unit, in_a_week in (("an hour", 168.0), ("a day", 7.0), ("a week", 1.0)):
        if per_week >= 0.9 * in_a_week:
            return unit, in_a_week
    return "a year", 1.0 / 52.0


def _duration(seconds: float) -> str:
    if seconds < 1.5 * _HOUR_S:
        return f"{seconds / 60.0:.0f} min"
    if seconds < 2.0 * _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.0f} days"
