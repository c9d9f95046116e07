"""The daemon and what is learned on site, while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile

from edgeasd.common.config.keys import MachineConfig
from edgeasd.models.calibration_file import (
    CalibrationDocument,
    read_calibrations,
    write_calibrations,
)
from tests.detect.models import faulty_sound, load_model, make_model, normal_sound
from tests.installation import (
    PACED,
    RATE,
    Installation,
    calibration,
    finish,
    last_heard,
    machine_health,
)
from tests.publish.brokers import Subscriber, wait_until

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("quick")]


def calibration_health(subscriber: Subscriber) -> dict[str, Any]:
    """Return what the node's health says of the calibration of m1; empty before there is any."""
    machine = machine_health(last_heard(subscriber, "health"), "m1")
    found: dict[str, Any] = machine.get("calibration", {})
    return found


def test_daemon_takes_up_a_calibration_and_drops_that_of_another_model(
    installation: Installation, subscriber: Subscriber
) -> None:
    """Both while it runs, without a gap; the health message tells which one is in force."""
    model = installation.folder / "tiny.onnx"
    installation.configure(PACED, mqtt="health_interval_s = 1")
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score")
    own = last_heard(subscriber, "m1/score")["threshold"]

    machine = MachineConfig("m1", model)
    write_calibrations(
        machine, read_calibrations(machine).with_version(calibration(load_model(model).sha256))
    )

    def health() -> dict[str, Any]:
        return calibration_health(subscriber)

    wait_until(lambda: last_heard(subscriber, "m1/score")["threshold"] == 77.0, "the new threshold")
    wait_until(lambda: health().get("version") == 1, "the calibration in the health message")
    wait_until(lambda: health()["alarms"] is not None, "a score since")
    said = health()
    alarms = said.pop("alarms")
    assert said == {"version": 1, "warning": "", "score_drift": None}
    assert (alarms["raised"], alarms["too_many"]) == (0, False)
    assert own != 77.0
    make_model(model, clip_windows=4, seed=1)
    wait_until(lambda: health().get("version", 1) is None, "the refusal")
    assert "is of another model" in health()["warning"]
    wait_until(
        lambda: last_heard(subscriber, "m1/score")["threshold"] != 77.0, "the model's threshold"
    )
    assert last_heard(subscriber, "health")["machines"][0]["gaps"] == 0
    process.terminate()
    assert "is of another model" in finish(process)


def test_alarms_far_more_often_than_calibrated_are_told(
    installation: Installation, subscriber: Subscriber
) -> None:
    """In the health message with the remedy, once in the log, and of no machine without them."""
    model = installation.folder / "tiny.onnx"
    sound = [normal_sound(50 * RATE, 5), faulty_sound(10 * RATE, 6)]
    soundfile.write(installation.folder / "bursts.wav", np.concatenate(sound), RATE)
    source = '[machine.file]\npath = "bursts.wav"\npaced = false\nrepeat = true'
    installation.configure(source, mqtt="health_interval_s = 1")
    made = replace(calibration(load_model(model).sha256), threshold=3.0, clear_threshold=2.8)
    write_calibrations(MachineConfig("m1", model), CalibrationDocument("m1", (made,)))
    process = installation.start()

    def said() -> dict[str, Any]:
        return calibration_health(subscriber)

    wait_until(lambda: (said().get("alarms") or {}).get("too_many"), "the flood", 60.0)
    told_s = last_heard(subscriber, "health")["uptime_s"]
    wait_until(lambda: last_heard(subscriber, "health")["uptime_s"] > told_s + 5.0, "the log")
    process.terminate()
    log = finish(process)

    alarms = said()["alarms"]
    assert alarms["raised"] >= 4
    assert alarms["foreseen"] == pytest.approx(9.0 * alarms["hours"] / 168.0)
    warning = (
        "alarms come far more often than calibration foresaw: look at the machine and its "
        "microphone; if they are well, run 'edgeasd calibrate m1' on the sound of today"
    )
    assert said()["warning"] == warning
    assert log.count(f"WARNING edgeasd.service.machine.machine: m1: {warning}\n") == 1
