"""The pipeline of a detector: its counters, and how it takes the place of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeasd.baseline.validity import Fit
from edgeasd.common.config.keys import AlarmConfig, MachineConfig
from edgeasd.models.calibration_file import CalibrationDocument, write_calibrations
from edgeasd.models.detector import Detector, detector_of
from tests.detect.cutting import cut_at, cut_every
from tests.detect.models import faulty_sound, load_model, make_model, normal_sound
from tests.installation import calibration

RATE = 16_000
SOUND = np.concatenate((normal_sound(6 * RATE, 1), faulty_sound(4 * RATE, 2)))


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    """A detector that is calibrated, with an alarm that its first scores raise."""
    path = make_model(tmp_path / "tiny.onnx", clip_windows=4)
    alarm = AlarmConfig(raise_after=4, clear_after=8)
    machine = MachineConfig("m1", path, alarm=alarm)
    model = load_model(path)
    made = replace(calibration(model.sha256), threshold=-1e9, clear_threshold=-1e9)
    write_calibrations(machine, CalibrationDocument("m1", (made,)))
    return detector_of(machine, model)


def fit_of(detector: Detector, places: Sequence[int]) -> tuple[Fit, int]:
    """Return what the counters say of the sound cut at *places*, and how many scores count."""
    pipeline = detector.pipeline(44_100)
    assert pipeline._drift_meter is not None
    for block in cut_at(SOUND, list(places)):
        pipeline.process(block)
    pipeline.flush()
    return pipeline.fit, pipeline._drift_meter._n_samples


def test_counters_do_not_depend_on_the_cut(detector: Detector) -> None:
    """Nor does it depend on the cut which scores count as those of a raised alarm."""
    whole = fit_of(detector, [])

    assert whole[0].alarms is not None
    assert whole[0].alarms.raised == 1
    assert whole[1] > 0
    for length in (1000, 4_801, 44_100):
        assert fit_of(detector, range(length, len(SOUND), length)) == whole


def test_pipeline_that_takes_over_goes_on_with_alarm_and_counts(detector: Detector) -> None:
    """What both have heard counts once, and the alarm is the one that was raised."""
    before, after = detector.pipeline(), detector.pipeline()
    blocks = cut_every(SOUND, 1000)
    for block in blocks[:80]:
        before.process(block)
    for block in blocks[40:80]:
        after.process(block)
    windows = before.windows

    after.continue_from(before)

    assert (after.windows, after.gaps) == (windows, 0)
    assert after.alarm.state.start_sample == before.alarm.state.start_sample is not None
    after.process(blocks[80])
    assert after.windows >= windows


def test_adjusted_pipeline_goes_by_the_new_alarm_and_counts_anew(detector: Detector) -> None:
    """The number of alarms that was foreseen was foreseen for another threshold."""
    pipeline = detector.pipeline()
    for block in cut_every(SOUND, 1000):
        pipeline.process(block)
    assert pipeline.alarm.active
    assert pipeline.fit.alarms is not None

    pipeline.adjust(replace(detector, alarm=replace(detector.alarm, threshold=1e9)))

    assert pipeline.fit.alarms is None
    assert pipeline.alarm.active
    assert pipeline.detector.alarm.threshold == 1e9
