"""A configuration that is read again: machines that change their source."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.detect.models import normal_sound
from tests.installation import NODE, RATE, Installation, finish, reload
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

pytestmark = pytest.mark.network


@pytest.mark.audio_device
def test_reload_opens_a_shared_device_in_another_way(
    broker: Mosquitto, installation: Installation, alsa: VirtualMicrophone
) -> None:
    """Machines that share a microphone get another latency together; one refused is heard on."""
    broker.start()
    subscriber = Subscriber(broker.port)
    machine = f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}\nlatency_s = '

    def healths() -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in subscriber.on(f"{NODE}/health")]

    def all_hear() -> bool:
        return all(one["level_dbfs"] is not None for one in healths()[-1]["machines"])

    alsa.feed((32_768 * normal_sound(60 * RATE)).astype(np.int16))
    installation.configure(machine + "0.3", machine + "0.3", mqtt="health_interval_s = 1")
    process = installation.start(**alsa.environment)
    wait_until(lambda: healths() and all_hear(), "both to hear")
    refused = machine.replace("[m", 'section = "99"\n[m') + "0.5"
    installation.configure(machine + "0.5", machine + "0.5", refused, mqtt="health_interval_s = 1")
    reload(process)
    wait_until(lambda: not healths()[-1]["configuration"]["ok"], "the reload")
    wait_until(all_hear, "both to hear again")
    installation.configure(
        refused.replace("0.5", "0.3"), machine + "0.5", mqtt="health_interval_s = 1"
    )
    n_reloads = len(healths())
    reload(process)
    wait_until(lambda: len(healths()) > n_reloads + 2 and all_hear(), "both to hear on")
    process.terminate()
    finish(process)
    subscriber.close()

    told = [one["configuration"]["refused"] for one in healths()]
    assert {len(one) for one in told} == {0, 1}
    assert {one[0].partition(":")[0] for one in told if one} == {"machine 'm3'", "machine 'm1'"}
