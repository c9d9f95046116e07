"""How often the state of a machine is told."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.clock import since_boot_s
from edgeasd.publish.topics import Topics
from edgeasd.service.machine import reporter as reporter_module
from edgeasd.service.machine.reporter import (
    MOST_A_MINUTE,
    RESERVED,
    Allowance,
    Condition,
    Reporter,
)
from edgeasd.service.node import Node

OK, ALARM = Condition("ok", ""), Condition("alarm", "unlike itself")
CLIPPING, QUIET = Condition("clipping", "too loud"), Condition("too_quiet", "too low")


class Messages(Node):
    """A node that keeps the states that are published, and when."""

    name = "n1"

    def __init__(self, clock: Clock) -> None:
        self.topics = Topics("", "n1")
        self.states: list[tuple[float, dict[str, Any]]] = []
        self._clock = clock

    def last_event(self, topic: str) -> None:
        """Know of no earlier event."""

    def publish_state(self, machine: str, payload: bytes) -> None:
        """Keep a state."""
        assert machine == "m1"
        self.states.append((self._clock.now_s, json.loads(payload)))


class Clock:
    """Running time that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Running time."""
    return Clock(monkeypatch)


def told_by(
    clock: Clock, conditions: Sequence[Condition], every_s: float
) -> tuple[list[tuple[float, dict[str, Any]]], Reporter]:
    """Return what is told, and when, of a machine whose condition changes *every_s* seconds."""
    node = Messages(clock)
    reporter = Reporter(node, "m1")
    for condition in conditions:
        end_s = clock.now_s + every_s
        while clock.now_s < end_s:
            reporter.tell(condition, None)
            clock.now_s += min(0.25, every_s)
    return node.states, reporter


def most_in_a_minute(times_s: Sequence[float]) -> int:
    """Return how many of *times_s* fall into one minute at most."""
    return max(sum(0.0 <= other - time_s < 60.0 for other in times_s) for time_s in times_s)


@pytest.mark.parametrize("every_s", [0.25, 1.5, 9.0])
@pytest.mark.parametrize("pair", [(OK, CLIPPING), (CLIPPING, QUIET), (OK, ALARM)])
def test_states_that_flap_are_told_six_times_a_minute(
    clock: Clock, every_s: float, pair: tuple[Condition, Condition]
) -> None:
    """However fast it flaps; and what holds in the end is told."""
    conditions = [*pair * round(150.0 / every_s), QUIET]

    messages, reporter = told_by(clock, conditions, every_s)
    for _ in range(300):
        reporter.tell(QUIET, None)
        clock.now_s += 0.25

    assert most_in_a_minute([time_s for time_s, _ in messages]) <= MOST_A_MINUTE
    assert messages[-1][1]["state"] == "too_quiet"
    assert len(messages) > 10


def test_alarm_is_told_at_once_amid_states_that_flap(clock: Clock) -> None:
    """A part of the minute is kept for what matters most."""
    messages, reporter = told_by(clock, [OK, CLIPPING] * 20, 1.0)

    assert reporter.tell(ALARM, 7.0)

    assert messages[-1][1]["state"] == "alarm"
    assert most_in_a_minute([time_s for time_s, _ in messages]) == MOST_A_MINUTE


def test_first_changes_are_told_at_once(clock: Clock) -> None:
    """A machine that comes, is heard and fails has not to wait for a minute to pass."""
    messages, _ = told_by(clock, [Condition("learning", "wait"), OK, QUIET, OK, ALARM], 0.25)

    assert [one["state"] for _, one in messages] == ["learning", "ok", "too_quiet", "ok", "alarm"]


def test_state_that_is_to_be_told_again_is_told_whatever_was_told_before(clock: Clock) -> None:
    """A broker that is new to the node has heard nothing of it."""
    messages, reporter = told_by(clock, [OK, CLIPPING] * 30, 1.0)
    n_before = len(messages)

    reporter.repeat()

    assert reporter.tell(OK, None)
    assert not reporter.tell(OK, None)
    assert len(messages) == n_before + 1


@pytest.mark.parametrize("years", [-56.0, -1.0, 26.0])
def test_time_since_when_a_state_holds_follows_the_clock_that_was_set(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, years: float
) -> None:
    """Told again, a state of a minute ago is no state of years ago."""
    age_s = 60.0
    messages, reporter = told_by(clock, [OK], 0.25)
    now_s, boot_s = max(0.0, time.time() + years * 365.25 * 86_400), since_boot_s()
    monkeypatch.setattr(reporter_module, "since_boot_s", lambda: boot_s + age_s)
    monkeypatch.setattr(time, "time", lambda: now_s)

    reporter.repeat()
    reporter.tell(OK, None)

    assert messages[-1][1]["since_ms"] == pytest.approx(1000 * max(0.0, now_s - age_s), abs=5000)


@given(steps_s=st.lists(st.tuples(st.floats(0.0, 40.0), st.booleans()), max_size=60))
def test_allowance_holds_in_every_minute(steps_s: list[tuple[float, bool]]) -> None:
    """Whatever is asked for when, and what is urgent finds the reserved part free."""
    allowance = Allowance(MOST_A_MINUTE, RESERVED)
    now_s, taken_s = 0.0, [-1e9]
    for step_s, urgent in steps_s:
        now_s += step_s
        n_lately = sum(now_s - one < 60.0 for one in taken_s)
        may = allowance.take(now_s, urgent=urgent)
        assert may == (n_lately < MOST_A_MINUTE - (0 if urgent else RESERVED))
        taken_s += [now_s] * may
