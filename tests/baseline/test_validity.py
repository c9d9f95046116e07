"""Tests of alarms that come too often for their calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson

from edgeasd.baseline.validity import AlarmCount, AlarmCounter
from edgeasd.common.config.keys import AlarmConfig, MachineConfig
from edgeasd.common.types import AlarmEvent, AudioBlock, Score
from edgeasd.detect.pipeline import Detection
from edgeasd.models.calibration_file import (
    CalibrationDocument,
    calibrated_model,
    write_calibrations,
)
from edgeasd.models.detector import make_detector
from tests.detect.models import load_model, make_model, normal_sound
from tests.installation import calibration

RATE = 16_000
MINUTE = 60 * RATE
A_DAY = 7.0
"""Alarms a week."""


def count_after(minutes: int, starts: set[int], per_week: float = A_DAY) -> AlarmCount:
    """Return the count after a score each minute, where those numbered *starts* raise the alarm."""
    counter = AlarmCounter(per_week, RATE)
    for index in range(minutes):
        score = Score(1.0, index * MINUTE, MINUTE)
        event = AlarmEvent("start", 1.0, 0.5, 0.4, score.end_sample, score.end_sample)
        counter.process(Detection(score, event if index in starts else None))
    assert counter.count is not None
    return counter.count


def test_count_is_unknown_before_the_first_score() -> None:
    """Where nothing was heard, nothing is said."""
    assert AlarmCounter(A_DAY, RATE).count is None


def test_flood_of_alarms_is_told_within_the_hour() -> None:
    """Each five minutes, where one a day was foreseen at most."""
    early, late = count_after(15, {1, 6, 11}), count_after(20, {1, 6, 11, 16})

    assert not early.too_many
    assert (late.raised, late.too_many) == (4, True)
    assert late.hours == pytest.approx(1 / 3)
    assert late.foreseen == pytest.approx(20 / 1440)


def test_burst_of_three_is_no_flood() -> None:
    """One rare noise that lasts may raise the alarm again and again."""
    assert not count_after(60, {10, 12, 14}).too_many


def test_as_many_as_were_foreseen_is_no_flood() -> None:
    """Of 300 days at the upper end of the interval, next to none is called too much."""
    rng = np.random.default_rng(1)
    days = [set(rng.integers(144, size=rng.poisson(6.0)).tolist()) for _ in range(300)]

    told = [count_after(144, starts, per_week=60 * A_DAY).too_many for starts in days]

    assert sum(told) <= 2


@pytest.mark.parametrize("foreseen", [0.0, 1e-9, 0.7, 3.0, 60.0, 900.0])
@pytest.mark.parametrize("raised", [4, 5, 13, 80, 1_000])
def test_too_many_are_those_that_chance_brings_once_in_a_thousand(
    raised: int, foreseen: float
) -> None:
    """The count is compared with scipy's Poisson distribution."""
    count = count_after(1440, set(range(raised)), per_week=foreseen * A_DAY)

    assert count.raised == raised
    assert count.foreseen == pytest.approx(foreseen)
    assert count.too_many == (poisson.sf(raised - 1, foreseen) < 0.001)


def test_flood_of_yesterday_is_forgotten() -> None:
    """A machine that was mended is well again after a day of sound."""
    starts = set(range(0, 100, 5))

    assert count_after(1400, starts).too_many
    assert count_after(100 + 1440, starts) == AlarmCount(0, 24.0, 1.0, too_many=False)


def test_updates_and_ends_count_for_nothing() -> None:
    """An alarm that lasts a day is one."""
    counter = AlarmCounter(A_DAY, RATE)
    for index in range(20):
        score = Score(1.0, index * MINUTE, MINUTE)
        event = AlarmEvent("update" if index else "start", 1.0, 0.5, 0.4, MINUTE, score.end_sample)
        counter.process(Detection(score, event))

    assert counter.count is not None
    assert counter.count.raised == 1


@pytest.mark.parametrize("away_h", [1, 23, 24 * 365])
def test_time_without_sound_is_no_time_heard(away_h: int) -> None:
    """A microphone that was away neither lengthens what was heard nor forgets the alarms in it."""
    counter = AlarmCounter(A_DAY, RATE)
    for index in range(60):
        position = index * MINUTE + (away_h * 60 * MINUTE if index >= 30 else 0)
        score = Score(1.0, position, MINUTE)
        event = AlarmEvent("start", 1.0, 0.5, 0.4, score.end_sample, score.end_sample)
        counter.process(Detection(score, event if index % 10 == 0 else None))

    assert counter.count == count_after(60, {0, 10, 20, 30, 40, 50})


def test_flat_sound_is_no_sound_heard(tmp_path: Path) -> None:
    """Neither drift nor the count of alarms rests on what a dead microphone gives."""
    make_model(tmp_path / "tiny.onnx", clip_windows=4)
    machine = MachineConfig("m1", tmp_path / "tiny.onnx")
    model = load_model(machine.model)
    write_calibrations(machine, CalibrationDocument("m1", (calibration(model.sha256),)))
    site = calibrated_model(machine, model)
    detector = replace(make_detector(site.model, "", machine.alarm), calibrated=site)
    pipeline = detector.pipeline()

    detections = pipeline.process(AudioBlock(np.zeros(20 * RATE, np.float32), 0))

    assert {one.signal for one in detections} == {"flat_signal"}
    assert pipeline.fit.alarms is None
    pipeline.process(AudioBlock(normal_sound(10 * RATE, 1), 20 * RATE))
    assert pipeline.fit.alarms is not None
    assert pipeline.fit.alarms.hours < 11 / 3600


def test_threshold_that_is_not_the_calibrations_has_no_budget(tmp_path: Path) -> None:
    """One set by hand, or run lengths other than the calibration's, raises as often as it will."""
    make_model(tmp_path / "tiny.onnx", clip_windows=4)
    machine = MachineConfig("m1", tmp_path / "tiny.onnx")
    model = load_model(machine.model)
    write_calibrations(machine, CalibrationDocument("m1", (calibration(model.sha256),)))

    def counts(**alarm: Any) -> bool:
        own = replace(machine, alarm=AlarmConfig(**alarm))
        site = calibrated_model(own, model)
        detector = replace(make_detector(site.model, "", own.alarm), calibrated=site)
        return detector.alarm_counter() is not None

    assert counts()
    assert not counts(threshold=90.0)
    assert not counts(raise_after=1)
