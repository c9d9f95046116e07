"""Tests of the slow drift of scores."""

from __future__ import annotations

import sys
import threading
from itertools import count

import numpy as np
import pytest

from edgeasd.baseline.score_drift import ScoreDriftMeter
from edgeasd.common.types import Score

RATE = 16_000
SPAN = 10 * RATE
QUANTILES = (8.0, 10.0, 12.0)
PER_HOUR = 360


def meter_after(
    hours: float, centre: float, *, spread: float = 1.2, seed: int = 1
) -> ScoreDriftMeter:
    """Return a meter that heard scores about *centre* for some hours."""
    rng = np.random.default_rng(seed)
    meter = ScoreDriftMeter(QUANTILES, RATE)
    for index in range(round(hours * PER_HOUR)):
        meter.process(Score(rng.normal(centre, spread), index * SPAN, SPAN))
    return meter


def test_drift_is_unknown_in_the_first_hour() -> None:
    """Nothing is said of less than an hour."""
    assert meter_after(0.99, 10.0).drift is None


def test_scores_as_at_calibration_do_not_drift() -> None:
    """A day of scores of the same distribution."""
    drift = meter_after(24.0, 10.0).drift

    assert drift is not None
    assert drift.hours == 24
    assert abs(drift.shift) < 0.1
    assert not drift.drifted


@pytest.mark.parametrize("centre", [7.0, 13.0])
def test_scores_that_moved_drift_after_half_a_day(centre: float) -> None:
    """By one and a half times what scores vary, to either side; eleven hours say too little."""
    early, late = meter_after(11.0, centre).drift, meter_after(12.0, centre).drift

    assert early is not None
    assert not early.drifted
    assert late is not None
    assert late.drifted
    assert late.shift == pytest.approx((centre - 10.0) / 2.0, abs=0.1)


def test_little_that_is_sure_is_no_drift() -> None:
    """A shift by a fifth of what scores vary is found, and is not worth a warning."""
    drift = meter_after(24.0, 10.4).drift

    assert drift is not None
    assert drift.shift == pytest.approx(0.2, abs=0.1)
    assert not drift.drifted


def test_some_loud_hours_are_no_drift() -> None:
    """A night shift of eight hours, far louder, is not the day."""
    meter = meter_after(16.0, 10.0)
    for index in range(8 * PER_HOUR):
        meter.process(Score(20.0, (16 * PER_HOUR + index) * SPAN, SPAN))

    assert meter.drift is not None
    assert not meter.drift.drifted


def test_scores_that_overlap_count_once() -> None:
    """A score every 256 ms over 10 s gives an hour after an hour, not after a minute and a half."""
    meter = ScoreDriftMeter(QUANTILES, RATE)

    for index in range(3 * PER_HOUR):
        meter.process(Score(10.0, index * 4096, SPAN))

    assert meter.drift is None


def test_drift_may_be_asked_for_while_scores_come() -> None:
    """The supervisor asks, a machine's thread scores; here each score is an hour."""
    hour = 3600 * RATE
    meter = ScoreDriftMeter(QUANTILES, RATE)
    stopping = threading.Event()

    def score() -> None:
        for index in count():
            if stopping.is_set():
                return
            meter.process(Score(10.0, index * hour, hour))

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=score)
    thread.start()
    try:
        drifts = [meter.drift for _ in range(20_000)]
    finally:
        stopping.set()
        thread.join()
        sys.setswitchinterval(interval_s)

    assert any(drifts)
