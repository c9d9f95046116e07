"""The pace of real time, on a clock that the test holds."""

from __future__ import annotations

import threading

import pytest

from edgeasd.capture.pace import Pace

RATE = 16_000


@pytest.fixture
def clock_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock whose time is the list's one item."""
    clock_s = [100.0]
    monkeypatch.setattr("edgeasd.capture.pace.time.monotonic", lambda: clock_s[0])
    return clock_s


def test_pace_sample_is_due_at_its_time_from_the_first_call(clock_s: list[float]) -> None:
    """A deadline depends on the start only, not on how late others were met."""
    pace = Pace(RATE)
    early = pace.wait(16_000, 0.0)

    clock_s[0] = 100.999
    just_before = pace.wait(16_000, 0.0)
    clock_s[0] = 101.7
    late = pace.wait(16_000, 0.0)
    next_early = pace.wait(32_000, 0.0)
    clock_s[0] = 102.0
    next_due = pace.wait(32_000, 0.0)

    assert [early, just_before, late, next_early, next_due] == [False, False, True, False, True]


def test_pace_stopped_refuses_even_what_is_due(clock_s: list[float]) -> None:
    """After `stop` nothing is due any more."""
    pace = Pace(RATE)
    pace.wait(0, 0.0)
    clock_s[0] = 200.0

    pace.stop()

    assert not pace.wait(0, 0.0)


def test_pace_stop_ends_a_wait() -> None:
    """Who waits for an hour returns when the pace is stopped."""
    pace = Pace(RATE)
    results: list[bool] = []
    waiter = threading.Thread(target=lambda: results.append(pace.wait(RATE * 3600, 7200.0)))
    waiter.start()

    pace.stop()
    waiter.join(60.0)

    assert results == [False]
