"""A configuration that is read again: what changes by it, and machines that change their source."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeasd.common.config.keys import (
    AlarmConfig,
    ClipsConfig,
    Config,
    FileConfig,
    MachineConfig,
    MicrophoneConfig,
    MqttConfig,
)
from edgeasd.service.reload import plan
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.detect.models import normal_sound
from tests.installation import NODE, RATE, Installation, finish, reload
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

NOW = Config(
    tuple(
        MachineConfig(name, Path("a.onnx"), source=MicrophoneConfig(device=name))
        for name in ("m1", "m2", "m3")
    ),
    node="n1",
    state_dir=Path("state"),
)


def test_plan_of_the_same_configuration_changes_nothing() -> None:
    """Nothing is refused, nobody leaves the broker, and no machine goes or moves."""
    changes = plan(NOW, NOW)

    assert changes.config == NOW
    assert (changes.refused, changes.reconnects) == ((), False)
    assert (changes.removed, changes.moved) == ((), ())


def test_plan_of_a_first_configuration_begins_every_machine() -> None:
    """The start is a reload from a configuration without machines."""
    changes = plan(replace(NOW, machine=()), NOW)

    assert changes.config.machine == NOW.machine
    assert (changes.removed, changes.moved) == ((), ())


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (lambda one: replace(one, node="n2"), "node has changed, which needs a restart"),
        (
            lambda one: replace(one, state_dir=Path("elsewhere")),
            "state_dir has changed, which needs a restart",
        ),
        (
            lambda one: replace(one, clips=ClipsConfig(enabled=False)),
            "clips has changed, which needs a restart",
        ),
        (
            lambda one: replace(one, mqtt=MqttConfig(base="hall", host="other")),
            "mqtt.base has changed, which needs a restart; [mqtt] stays as it is",
        ),
    ],
)
def test_plan_refuses_what_needs_a_restart_and_applies_the_rest(
    change: Callable[[Config], Config], refused: str
) -> None:
    """The key stays as it is; another level of the log beside it is applied."""
    changes = plan(NOW, change(replace(NOW, log_level="debug")))

    assert changes.refused == (refused,)
    assert changes.config == replace(NOW, log_level="debug")
    assert not changes.reconnects


@pytest.mark.parametrize(
    ("mqtt", "reconnects"),
    [
        (MqttConfig(score_interval_s=7.0, health_interval_s=8.0), False),
        (MqttConfig(host="other"), True),
        (MqttConfig(username="other"), True),
    ],
)
def test_plan_leaves_the_broker_for_another_or_another_account(
    mqtt: MqttConfig, *, reconnects: bool
) -> None:
    """Other intervals are no reason to leave it."""
    changes = plan(NOW, replace(NOW, mqtt=mqtt))

    assert changes.reconnects is reconnects
    assert changes.config.mqtt == mqtt


def test_plan_tells_machines_that_go_and_machines_that_move() -> None:
    """A machine with another alarm or model stays at its source; a new one neither goes nor moves.

    Two that exchange their devices both move.
    """
    first, second, third = NOW.machine
    wanted = (
        replace(first, source=second.source, alarm=AlarmConfig(threshold=1.0)),
        replace(second, source=first.source),
        MachineConfig("m4", Path("b.onnx"), source=FileConfig(Path("sound.wav"))),
    )
    adjusted = replace(third, alarm=AlarmConfig(threshold=2.0), model=Path("b.onnx"))

    changes = plan(NOW, replace(NOW, machine=wanted))

    assert changes.removed == ("m3",)
    assert changes.moved == ("m1", "m2")
    assert changes.config.machine == wanted
    assert plan(NOW, replace(NOW, machine=(first, second, adjusted))).moved == ()


@pytest.mark.network
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
