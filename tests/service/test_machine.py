"""One machine and its model file, without a daemon around it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.config.keys import AlarmConfig, Config, FileConfig, MachineConfig
from edgeasd.models.cache import Models
from edgeasd.service.machine.machine import STOP_TIMEOUT_S, Machine
from edgeasd.service.machine.reporter import Reporter
from edgeasd.service.node import Node
from tests.detect.faulty_models import UNTRIED_DB, make_failing
from tests.detect.models import make_model
from tests.installation import listening_machine
from tests.publish.brokers import wait_until


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One that hears a healthy machine, in real time."""
    with listening_machine(tmp_path) as machine:
        yield machine


def test_models_keeps_those_in_use_only(tmp_path: Path) -> None:
    """A file is read once while its model is used, and no model outlives its machines."""
    models = Models()
    paths = [make_model(tmp_path / f"{number}.onnx", seed=number) for number in range(3)]

    used = models.load(paths[0])
    gone = [weakref.ref(models.load(path)) for path in paths[1:]]
    gc.collect()

    assert models.load(paths[0]) is used
    (tmp_path / "copy").write_bytes(paths[0].read_bytes())
    (tmp_path / "copy").replace(paths[0])
    assert models.load(paths[0]) is used
    assert [one() for one in gone] == [None, None]


def test_alarm_settings_outlive_a_new_model_that_is_given_up(
    machine: Machine, tmp_path: Path
) -> None:
    """What was set while a model that fails was on trial holds for the one that goes on."""
    make_failing(make_model(tmp_path / "new.onnx", clip_windows=4, seed=7), UNTRIED_DB)
    (tmp_path / "new.onnx").replace(tmp_path / "tiny.onnx")
    wait_until(machine.follow, "the new file to be noticed")
    assert machine.health().model_fault == ""

    machine.change(replace(machine.config, alarm=AlarmConfig(threshold=1234.0)))

    wait_until(machine.follow, "the new model to be given up")
    assert "the model loaded before is used" in machine.health().model_fault
    wait_until(lambda: machine.in_force.alarm.threshold == 1234.0, "the setting to hold")


def test_machine_of_a_rate_below_the_models_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log when it begins, and in health for as long as it is so."""
    soundfile.write(tmp_path / "phone.wav", np.zeros(80_000), 8_000)
    path = make_model(tmp_path / "tiny.onnx", clip_windows=4)
    config = MachineConfig("m1", path, source=FileConfig(tmp_path / "phone.wav"))
    site = Config((config,), node="n1", state_dir=tmp_path / "state")
    node = Node(site)

    machine = Machine(config, node, Models(), Reporter(node, config.name))
    news = [machine.follow() for _ in range(3)]

    words = "8000 Hz holds nothing above 4 kHz, the model listens up to 8 kHz; use a source of "
    assert news == [False] * 3
    assert caplog.messages.count(f"m1: {words}16000 Hz or more") == 1
    assert machine.health().calibration.warning == f"{words}16000 Hz or more"
    machine.stop(STOP_TIMEOUT_S)
    node.outbox.close()
