"""The daemon and what is learned on site, while it runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import soundfile

from edgeasd.config import MachineConfig
from edgeasd.detect.model import load_model
from edgeasd.site import Calibration, read_site, write_site
from tests.detect.models import make_model, normal_sound
from tests.publish.brokers import Mosquitto, Subscriber, wait_until
from tests.site import NODE, RATE, Site, finish

pytestmark = pytest.mark.network


def calibration(sha256: str) -> Calibration:
    """Return a calibration with a threshold that is its own."""
    return Calibration(
        number=1,
        model_sha256=sha256,
        section="00",
        created="2026-11-23T00:00:00+00:00",
        threshold=77.0,
        clear_threshold=55.0,
        raise_after=4,
        clear_after=8,
        cool_down_s=30.0,
        budget_per_week=1.0,
        expected_per_week=1.0,
        low_per_week=0.1,
        high_per_week=9.0,
        method="tail",
        fit={},
        sound_s=3600.0,
        decisions=360,
        score_quantiles=(1.0, 2.0, 3.0),
    )


def last(subscriber: Subscriber, topic: str) -> dict[str, Any]:
    """Return what was last heard on a topic of the node."""
    payloads = subscriber.on(f"{NODE}/{topic}")
    found: dict[str, Any] = json.loads(payloads[-1]) if payloads else {}
    return found


def test_daemon_takes_up_a_calibration_and_drops_that_of_another_model(
    site: Site, broker: Mosquitto
) -> None:
    """Both while it runs, without a gap; the health message tells which one is in force."""
    broker.start()
    subscriber = Subscriber(broker.port)
    model = site.folder / "tiny.onnx"
    make_model(model, clip_windows=4)
    soundfile.write(site.folder / "long.wav", normal_sound(120 * RATE, 5), RATE)
    site.configure('[machine.file]\npath = "long.wav"', mqtt="health_interval_s = 1")
    process = site.start()
    wait_until(lambda: last(subscriber, "m1/score"), "a score")
    own = last(subscriber, "m1/score")["threshold"]

    machine = MachineConfig("m1", model)
    write_site(machine, read_site(machine).with_version(calibration(load_model(model).sha256)))

    def health() -> dict[str, Any]:
        machines = last(subscriber, "health").get("machines", [{}])
        found: dict[str, Any] = machines[0].get("calibration", {})
        return found

    wait_until(lambda: last(subscriber, "m1/score")["threshold"] == 77.0, "the new threshold")
    wait_until(lambda: health().get("version") == 1, "the calibration in the health message")
    assert health() == {"version": 1, "warning": "", "score_drift": None}
    assert own != 77.0
    make_model(model, clip_windows=4, seed=1)
    wait_until(lambda: health().get("version", 1) is None, "the refusal")
    assert "is of another model" in health()["warning"]
    wait_until(lambda: last(subscriber, "m1/score")["threshold"] != 77.0, "the model's threshold")
    assert last(subscriber, "health")["machines"][0]["gaps"] == 0
    process.terminate()
    assert "is of another model" in finish(process)
    subscriber.close()
