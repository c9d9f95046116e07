"""Tests of the alarm: which scores start, keep and end it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.types import AlarmEvent, Score
from edgeasd.detect.alarm import Alarm, AlarmSpec

HOP = 10
LENGTH = 100
SPEC = AlarmSpec(threshold=2.0, clear_threshold=1.0, update_every=10**9)


def score_at(index: int, value: float) -> Score:
    """Return the score of the given *index*: it ends at ``LENGTH + HOP * index``."""
    return Score(value, HOP * index, LENGTH)


def run(alarm: Alarm, values: str | list[float]) -> str:
    """Return the events that *values* make, a letter each: S, u, E, or '.' for none.

    Args:
        alarm: The alarm.
        values: Scores one after the other; in a text ``H`` is high, ``m`` between the thresholds,
            ``l`` low.
    """
    levels = {"H": 3.0, "m": 1.5, "l": 0.0}
    letters = {"start": "S", "update": "u", "end": "E"}
    numbers = [levels[value] if isinstance(value, str) else value for value in values]
    events = [alarm.process(score_at(index, value)) for index, value in enumerate(numbers)]
    return "".join("." if event is None else letters[event.type] for event in events)


@pytest.mark.parametrize(
    ("spec", "scores", "events"),
    [
        # At once, with hysteresis.
        (SPEC, "", ""),
        (SPEC, "llmlm", "....."),
        (SPEC, "lHHlH", ".S.ES"),
        (SPEC, "HmmmHml", "S.....E"),
        (SPEC, "mHmlml", ".S.E.."),
        # Run lengths: only consecutive scores count.
        (replace(SPEC, raise_after=3), "HHlHHmHHH", "........S"),
        (replace(SPEC, raise_after=3), "HHHH", "..S."),
        (replace(SPEC, clear_after=3), "HllHllmlll", "S........E"),
        (replace(SPEC, clear_after=2), "HllllH", "S.E..S"),
        (replace(SPEC, raise_after=2, clear_after=2), "HHllHHll", ".S.E.S.E"),
        # Scores before the start do not count towards the next one.
        (replace(SPEC, raise_after=2), "HHlHlHH", ".SE...S"),
        # Cool-down, in samples after the end; at its end the run goes on.
        (replace(SPEC, cool_down=30), "HlHHHH", "SE..S."),
        (replace(SPEC, cool_down=31), "HlHHHH", "SE...S"),
        (replace(SPEC, cool_down=30), "HlHHlH", "SE...S"),
        (replace(SPEC, cool_down=30, raise_after=2), "HHlHHHH", ".SE..S."),
        (replace(SPEC, cool_down=30, raise_after=2), "HHlHHlHH", ".SE....S"),
        # Updates, in samples after the start or the last update; an end goes first.
        (replace(SPEC, update_every=20), "HHHHHH", "S.u.u."),
        (replace(SPEC, update_every=21), "HHHHHHH", "S..u..u"),
        (replace(SPEC, update_every=20), "HmmmlH", "S.u.ES"),
        (replace(SPEC, update_every=10), "HHlHH", "SuESu"),
        (replace(SPEC, update_every=1), "Hmm", "Suu"),
        (replace(SPEC, update_every=20, clear_after=3), "Hlllll", "S.uE.."),
        # One threshold for both.
        (replace(SPEC, clear_threshold=2.0), "HmHm", "SESE"),
    ],
)  # fmt: skip
def test_alarm_scores_make_events(spec: AlarmSpec, scores: str, events: str) -> None:
    """The scores make these events and no others."""
    assert run(Alarm(spec), scores) == events


def test_alarm_score_at_a_threshold() -> None:
    """A score at the threshold raises; one at the clear threshold does not end."""
    assert run(Alarm(SPEC), [2.0, 1.0, 0.999]) == "S.E"
    assert run(Alarm(SPEC), [1.999]) == "."


def test_alarm_events_say_what_made_them() -> None:
    """An event holds its score, the thresholds, its position and that of the start."""
    alarm = Alarm(replace(SPEC, update_every=20))

    events = [alarm.process(score_at(index, value)) for index, value in enumerate([5, 4, 3, 0])]

    assert events == [
        AlarmEvent("start", 5, 2.0, 1.0, start_sample=100, first_sample=100),
        None,
        AlarmEvent("update", 3, 2.0, 1.0, start_sample=100, first_sample=120),
        AlarmEvent("end", 0, 2.0, 1.0, start_sample=100, first_sample=130),
    ]


def test_alarm_active_between_start_and_end() -> None:
    """The alarm is active from its start to its end."""
    alarm = Alarm(SPEC)
    active = []

    for index, value in enumerate([0.0, 3.0, 1.5, 0.0]):
        alarm.process(score_at(index, value))
        active.append(alarm.active)

    assert active == [False, True, True, False]


def test_alarm_gap_neither_starts_nor_ends() -> None:
    """A jump in the positions makes no event; only an update that is due comes after it."""
    alarm = Alarm(replace(SPEC, raise_after=2, clear_after=2, update_every=10**6))
    positions = [0, 10**5, 10**5 + 10, 10**8, 10**8 + 10]

    events = [
        alarm.process(Score(value, position, LENGTH))
        for value, position in zip([3.0, 3.0, 0.0, 1.5, 0.0], positions, strict=True)
    ]

    assert [event and event.type for event in events] == [None, "start", None, "update", None]
    assert alarm.active


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_alarm_score_that_is_not_finite_is_refused(value: float) -> None:
    """Neither "not a number" nor infinity is high or low, and JSON can say none of them."""
    alarm = Alarm(SPEC)

    with pytest.raises(ValueError, match=f"^score.value={value} must be finite$"):
        alarm.process(score_at(0, value))


def test_alarm_nan_changes_nothing() -> None:
    """After a refused score the alarm goes on as if it had not come."""
    alarm = Alarm(replace(SPEC, raise_after=2))
    alarm.process(score_at(0, 3.0))
    with pytest.raises(ValueError, match="must be finite"):
        alarm.process(score_at(1, float("nan")))

    event = alarm.process(score_at(2, 3.0))

    assert event is not None
    assert event.type == "start"


def test_alarm_reset_equals_new() -> None:
    """After a reset neither run, alarm nor cool-down is left, and no event was made."""
    alarm = Alarm(replace(SPEC, raise_after=2, cool_down=1000))
    assert run(alarm, "HHlHH") == ".SE.."

    alarm.reset()

    assert not alarm.active
    assert run(alarm, "HHl") == ".SE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clear_threshold": 2.5}, "clear_threshold=2.5 must be at most 2.0"),
        ({"threshold": float("nan")}, "clear_threshold=1.0 must be at most nan"),
        ({"clear_threshold": float("nan")}, "clear_threshold=nan must be at most 2.0"),
        ({"raise_after": 0}, "raise_after=0 must be at least 1"),
        ({"clear_after": 0}, "clear_after=0 must be at least 1"),
        ({"update_every": 0}, "update_every=0 must be at least 1"),
        ({"cool_down": -1}, "cool_down=-1 must be at least 0"),
    ],
)
def test_alarm_spec_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    """Thresholds that cross and counts below one are refused."""
    with pytest.raises(ValueError) as caught:
        replace(SPEC, **change)

    assert str(caught.value) == message


SPECS = st.builds(
    lambda low, rise, **counts: AlarmSpec(low + rise, low, **counts),
    low=st.floats(-2, 2),
    rise=st.floats(0, 2),
    raise_after=st.integers(1, 4),
    clear_after=st.integers(1, 4),
    cool_down=st.integers(0, 60),
    update_every=st.integers(1, 60),
)
STREAMS = st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 40)), max_size=60)


def play(spec: AlarmSpec, stream: list[tuple[float, int]]) -> tuple[list[Score], list[AlarmEvent]]:
    """Return the scores of *stream*, pairs of value and samples since the last, and its events."""
    alarm = Alarm(spec)
    scores, events = [], []
    position = 0
    for value, step in stream:
        position += step
        scores.append(Score(value, position, LENGTH))
        event = alarm.process(scores[-1])
        if event is not None:
            events.append(event)
    return scores, events


@given(SPECS, STREAMS)
def test_alarm_any_scores_events_alternate(
    spec: AlarmSpec, stream: list[tuple[float, int]]
) -> None:
    """Whatever the scores, events come as start, updates, end, and share their start."""
    _, events = play(spec, stream)

    active: int | None = None
    for event in events:
        assert (event.type == "start") == (active is None)
        active = event.first_sample if event.type == "start" else active
        assert event.start_sample == active
        if event.type == "end":
            active = None


@given(SPECS, STREAMS)
def test_alarm_any_scores_cool_down_and_intervals_hold(
    spec: AlarmSpec, stream: list[tuple[float, int]]
) -> None:
    """No event comes within the cool-down, and no two updates closer than their interval."""
    _, events = play(spec, stream)

    for before, after in pairwise(events):
        distance = after.first_sample - before.first_sample
        if before.type == "end":
            assert distance >= spec.cool_down
        if after.type == "update":
            assert distance >= spec.update_every


@given(SPECS, STREAMS)
def test_alarm_any_scores_runs_stand_before_events(
    spec: AlarmSpec, stream: list[tuple[float, int]]
) -> None:
    """Before every start stands a run of high scores, before every end one of low scores."""
    scores, events = play(spec, stream)
    ends = [score.end_sample for score in scores]

    for event in events:
        last = ends.index(event.first_sample) + 1
        if event.type == "start":
            run_of = scores[last - spec.raise_after : last]
            assert len(run_of) == spec.raise_after
            assert all(score.value >= spec.threshold for score in run_of)
        if event.type == "end":
            run_of = scores[last - spec.clear_after : last]
            assert len(run_of) == spec.clear_after
            assert all(score.value < spec.clear_threshold for score in run_of)
            assert run_of[0].end_sample > event.start_sample


def test_alarm_resumed_ends_with_the_duration_from_its_first_start() -> None:
    """An alarm raised before the stream began goes on, and its end counts from then."""
    alarm = Alarm(SPEC)
    alarm.resume(-5000)

    assert alarm.active
    event = alarm.process(score_at(0, 0.0))

    assert event is not None
    assert (event.type, event.start_sample) == ("end", -5000)


def test_alarm_adopted_goes_on_at_another_rate() -> None:
    """What takes over from an alarm has its start, its cool-down and its next update."""
    spec = replace(SPEC, cool_down=1000, update_every=2000)
    raised, ended = Alarm(spec), Alarm(spec)
    run(raised, "H")
    run(ended, "Hl")
    heirs = [Alarm(replace(spec, cool_down=2000, update_every=4000)) for _ in range(2)]

    heirs[0].adopt(raised.state, 2.0)
    heirs[1].adopt(ended.state, 2.0)

    update = heirs[0].process(Score(3.0, 0, 2 * (LENGTH + 2000)))
    assert update is not None
    assert (update.type, update.start_sample) == ("update", 2 * LENGTH)
    quiet_until = 2 * (LENGTH + HOP + 1000)
    assert heirs[1].process(Score(3.0, 0, quiet_until - 1)) is None
    assert heirs[1].process(Score(3.0, 0, quiet_until)) is not None


@given(SPECS, STREAMS)
def test_alarm_any_scores_no_event_is_left_out(
    spec: AlarmSpec, stream: list[tuple[float, int]]
) -> None:
    """Where a run is long enough or an update is due, and nothing forbids it, is an event."""
    scores, events = play(spec, stream)
    said = {event.first_sample: event for event in events}
    last: AlarmEvent | None = None
    run: list[Score] = []  # since the last start or end

    for score in scores:
        now = score.end_sample
        run.append(score)
        if last is None or last.type == "end":
            high = [each.value >= spec.threshold for each in run[-spec.raise_after :]]
            quiet = last is not None and now < last.first_sample + spec.cool_down
            due = all(high) and len(high) == spec.raise_after and not quiet
        else:
            low = [each.value < spec.clear_threshold for each in run[-spec.clear_after :]]
            due = all(low) and len(low) == spec.clear_after
            due = due or now >= last.first_sample + spec.update_every
        assert (now in said) == due
        last = said.get(now, last)
        if now in said and said[now].type != "update":
            run = []
