"""Turns scores into alarm events."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeasd.common.types import AlarmEvent, Score


@dataclass(frozen=True, slots=True)
class AlarmSpec:
    """When a score becomes an alarm.

    Attributes:
        threshold: Scores at or above it are high.
        clear_threshold: Scores below it are low; at most *threshold*.
        raise_after: Number of consecutive high scores that raise the alarm.
        clear_after: Number of consecutive low scores that end it.
        cool_down: Samples after an end during which no alarm starts.
        update_every: Samples between two updates while the alarm lasts.

    Raises:
        ValueError: If the clear threshold exceeds the threshold, a count or *update_every* is less
            than 1, or *cool_down* is negative.
    """

    threshold: float
    clear_threshold: float
    raise_after: int = 1
    clear_after: int = 1
    cool_down: int = 0
    update_every: int = 960_000

    def __post_init__(self) -> None:
        if not self.clear_threshold <= self.threshold:
            raise ValueError(
                f"clear_threshold={self.clear_threshold} must be at most {self.threshold}"
            )
        for name in ("raise_after", "clear_after", "update_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.cool_down < 0:
            raise ValueError(f"cool_down={self.cool_down} must be at least 0")


@dataclass(frozen=True, slots=True)
class AlarmState:
    """Where an alarm stands, so that another one can take its place.

    Attributes:
        start_sample: Position at which the alarm was raised; None if it is not raised.
        update_at: Position from which the next update is due.
        quiet_until: Position before which no alarm starts.
    """

    start_sample: int | None
    update_at: int
    quiet_until: int


class Alarm:
    """Decides when scores become an alarm, with hysteresis, run lengths and cool-down.

    Time is counted by the positions of the scores, so that a replay gives the events of the live
    run.  A gap in the sound neither starts nor ends an alarm.
    """

    def __init__(self, spec: AlarmSpec) -> None:
        self.spec = spec
        self.reset()

    @property
    def active(self) -> bool:
        """Whether the alarm is raised."""
        return self._start_sample is not None

    @property
    def state(self) -> AlarmState:
        """Where the alarm stands now."""
        return AlarmState(self._start_sample, self._update_at, self._quiet_until)

    def process(self, score: Score) -> AlarmEvent | None:
        """Return the event that *score* causes, if any.

        Raises:
            ValueError: If the value of *score* is not finite, and so neither high nor low.
        """
        if not math.isfinite(score.value):
            raise ValueError(f"score.value={score.value} must be finite")
        if self._start_sample is None:
            return self._process_quiet(score)
        return self._process_active(score, self._start_sample)

    def reset(self) -> None:
        """Return to the initial state, without an event."""
        self._run = 0
        self._start_sample: int | None = None
        self._quiet_until = 0
        self._update_at = 0

    def resume(self, start_sample: int) -> None:
        """Go on with an alarm that was raised before this one was made.

        Args:
            start_sample: Position at which it was raised; negative if that was before the stream.
        """
        self.reset()
        self._start_sample = start_sample
        self._update_at = start_sample + self.spec.update_every

    def adopt(self, state: AlarmState, rate_ratio: float) -> None:
        """Go on from the *state* of another alarm, which this one takes the place of.

        Args:
            state: State of the other alarm.
            rate_ratio: Sample rate of this alarm's scores over that of the other's.
        """
        self.reset()
        if state.start_sample is not None:
            self.resume(round(state.start_sample * rate_ratio))
            self._update_at = round(state.update_at * rate_ratio)
        self._quiet_until = round(state.quiet_until * rate_ratio)

    def _process_quiet(self, score: Score) -> AlarmEvent | None:
        now = score.end_sample
        self._run = self._run + 1 if score.value >= self.spec.threshold else 0
        if self._run < self.spec.raise_after or now < self._quiet_until:
            return None
        self._run = 0
        self._start_sample = now
        self._update_at = now + self.spec.update_every
        return self._event("start", score, now)

    def _process_active(self, score: Score, start_sample: int) -> AlarmEvent | None:
        now = score.end_sample
        self._run = self._run + 1 if score.value < self.spec.clear_threshold else 0
        if self._run >= self.spec.clear_after:
            self._run = 0
            self._start_sample = None
            self._quiet_until = now + self.spec.cool_down
            return self._event("end", score, start_sample)
        if now >= self._update_at:
            self._update_at = now + self.spec.update_every
            return self._event("update", score, start_sample)
        return None

    def _event(
        self, kind: Literal["start", "update", "end"], score: Score, start_sample: int
    ) -> AlarmEvent:
        return AlarmEvent(
            type=kind,
            score=score.value,
            threshold=self.spec.threshold,
            clear_threshold=self.spec.clear_threshold,
            start_sample=start_sample,
            first_sample=score.end_sample,
        )
