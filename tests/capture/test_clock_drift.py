"""Drift from the times at which blocks arrive, late as they may."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeasd.capture.microphone.clock_drift import ClockDriftMeter

RATE = 48_000
BLOCK = 1_536


def listen(
    meter: ClockDriftMeter, duration_s: float, drift_ppm: float, start_s: float = 0.0, seed: int = 7
) -> None:
    """Deliver blocks of a device that drifts, each a little late and two in a hundred very."""
    random = np.random.default_rng(seed)
    block_s = BLOCK / RATE / (1.0 + drift_ppm * 1e-6)
    for index in range(1, round(duration_s / block_s)):
        late_s = abs(random.normal(0.0, 0.003)) + (random.random() < 0.02) * random.exponential(0.2)
        meter.count(BLOCK, start_s + index * block_s + late_s)


@pytest.mark.parametrize("drift_ppm", [500.0, 0.0, -40.0])
def test_drift_of_three_minutes_is_right_within_five_millionths(drift_ppm: float) -> None:
    """Scattered arrivals leave a few millionths of doubt."""
    meter = ClockDriftMeter(RATE)

    listen(meter, 180.0, drift_ppm)

    assert meter.ppm == pytest.approx(drift_ppm, abs=5.0)


def test_drift_of_ten_minutes_is_right_within_one_millionth() -> None:
    """More sound makes it sharper."""
    meter = ClockDriftMeter(RATE)

    listen(meter, 600.0, 23.0)

    assert meter.ppm == pytest.approx(23.0, abs=1.0)


def test_drift_is_not_known_in_the_first_two_minutes() -> None:
    """No number is better than a wrong one."""
    meter = ClockDriftMeter(RATE)

    listen(meter, 100.0, 500.0)

    assert math.isnan(meter.ppm)


def test_drift_survives_a_minute_in_which_all_comes_late() -> None:
    """A computer that is busy for a minute looks like no drift."""
    meter = ClockDriftMeter(RATE)
    block_s = BLOCK / RATE

    for index in range(1, round(300.0 / block_s)):
        time_s = index * block_s
        meter.count(BLOCK, time_s + (0.15 if 120.0 < time_s < 180.0 else 0.0))

    assert meter.ppm == pytest.approx(0.0, abs=5.0)


def test_drift_after_a_gap_is_measured_anew_and_told_until_then() -> None:
    """What was lost is no drift; the last estimate stands until there is a better one."""
    meter = ClockDriftMeter(RATE)
    listen(meter, 180.0, 100.0)
    before = meter.ppm

    meter.reset()
    listen(meter, 60.0, -100.0, start_s=1000.0)
    early = meter.ppm
    listen(meter, 180.0, -100.0, start_s=1060.0)

    assert early == before
    assert meter.ppm == pytest.approx(-100.0, abs=5.0)
