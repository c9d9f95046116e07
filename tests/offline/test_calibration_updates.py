"""Several commands change one calibration: none undoes what another did, unless it says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.config.keys import FileConfig, MachineConfig
from edgeasd.common.errors import ConfigError, ModelError
from edgeasd.detect.model.matrix import Matrix
from edgeasd.models.calibration_file import (
    CalibrationDocument,
    calibration_path,
    read_calibrations,
    write_calibrations,
)
from edgeasd.offline.calibration.calibrate import calibrate, store, undo
from edgeasd.offline.calibration.outcome import Outcome
from edgeasd.offline.learn import learn_machine
from edgeasd.offline.recordings.recordings import Recording, find_recordings
from tests.detect.models import make_model, normal_sound
from tests.installation import calibration

RATE = 16_000


@pytest.fixture
def machine(tmp_path: Path) -> MachineConfig:
    """A machine without a model."""
    return MachineConfig("fan", tmp_path / "fan.onnx", source=FileConfig(tmp_path / "sound.wav"))


def outcome(threshold: float, **changed: object) -> Outcome:
    """Return a calibration that was made, of which only the threshold counts here."""
    made = replace(calibration("0" * 64), threshold=threshold, **changed)  # type: ignore[arg-type]
    return Outcome(made, None, None, Path(), overridden=False)  # type: ignore[arg-type]


def test_versions_that_were_made_meanwhile_stay(machine: MachineConfig) -> None:
    """Who listened for six hours adds to what others wrote in that time."""
    known = read_calibrations(machine)
    store(machine, read_calibrations(machine), outcome(11.0))
    store(machine, read_calibrations(machine), outcome(12.0))

    made = store(machine, known, outcome(99.0))

    assert made.calibration.number == 3
    found = [(one.number, one.threshold) for one in read_calibrations(machine).versions]
    assert found == [(1, 11.0), (2, 12.0), (3, 99.0)]


def test_calibrations_and_undos_at_once_all_count(machine: MachineConfig) -> None:
    """Each is one step from the file as it was left by another."""
    known = read_calibrations(machine)
    make_model(machine.model)
    for threshold in range(6):
        store(machine, known, outcome(float(threshold)))

    steps: list[Callable[[], object]] = [lambda: store(machine, known, outcome(9.0))] * 8
    steps += [lambda: undo(machine)] * 6
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(step) for step in steps]:
            each.result()

    versions = read_calibrations(machine).versions
    assert [one.number for one in versions] == list(range(1, 9))
    assert sorted(path.name for path in machine.model.parent.iterdir()) == [
        "fan.onnx",
        "fan.onnx.fan.json",
    ]


def test_undo_of_nothing_leaves_no_lock(machine: MachineConfig) -> None:
    """Nor a file."""
    with pytest.raises(ConfigError, match="has no calibration to undo"):
        undo(machine)

    assert list(machine.model.parent.iterdir()) == []


PLAIN = CalibrationDocument("fan", (calibration("0" * 64),))
ADDED = CalibrationDocument(
    "fan",
    (replace(calibration("0" * 64), references=Matrix(np.eye(8, dtype=np.float32))),),
)


@pytest.mark.parametrize(
    ("known", "now"),
    [
        (PLAIN, ADDED),
        (ADDED, PLAIN),
        (ADDED, CalibrationDocument("fan")),
        (CalibrationDocument("fan"), ADDED),
    ],
)
def test_scores_of_what_was_normal_before_are_not_stored(
    machine: MachineConfig, known: CalibrationDocument, now: CalibrationDocument
) -> None:
    """The newest version is in force: it would silently take back what another just did."""
    write_calibrations(machine, now)

    with pytest.raises(ModelError, match="another command changed what counts as normal"):
        store(machine, known, outcome(9.0))

    assert read_calibrations(machine) == now


def recordings(folder: Path, duration_s: int) -> list[Recording]:
    """Return normal sound of so many seconds."""
    soundfile.write(folder / "normal.wav", normal_sound(duration_s * RATE, 2), RATE)
    return find_recordings([folder / "normal.wav"])


def test_calibration_of_a_model_that_was_replaced_meanwhile_is_not_stored(
    machine: MachineConfig, tmp_path: Path
) -> None:
    """It would hide the calibration that the new model has already."""
    make_model(machine.model, clip_windows=1)
    other = make_model(tmp_path / "other.onnx", clip_windows=1, seed=1).read_bytes()
    sound = recordings(tmp_path, 60)

    def replace_model(_: float) -> None:
        machine.model.write_bytes(other)

    with pytest.raises(
        ModelError, match="was replaced since scoring began, so these scores are outdated"
    ):
        calibrate(
            machine, sound, channel=0, per_week=5000, duration_s=np.inf, progress=replace_model
        )

    assert not calibration_path(machine).exists()


def test_model_that_was_made_meanwhile_is_not_replaced_unasked(
    machine: MachineConfig, tmp_path: Path
) -> None:
    """As one that was there before."""
    sound = recordings(tmp_path, 280)

    def make(_: float) -> None:
        machine.model.write_bytes(b"of another")

    with pytest.raises(ModelError, match="already exists; add --replace"):
        learn_machine(machine, sound, 0, progress=make)

    assert machine.model.read_bytes() == b"of another"
