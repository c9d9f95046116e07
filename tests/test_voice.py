"""What a node says over MQTT, without the daemon around it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeasd.config import Config, MqttConfig
from edgeasd.voice import Node
from tests.publish.brokers import Mosquitto, Subscriber, wait_until
from tests.site import NODE

pytestmark = pytest.mark.network


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Config:
    """A node of that broker."""
    mqtt = MqttConfig(host="127.0.0.1", port=broker.port)
    return Config((), node="n1", state_dir=tmp_path / "state", mqtt=mqtt)


@pytest.fixture
def node(config: Config) -> Iterator[Node]:
    """One that does not speak yet."""
    config.state_dir.mkdir()
    node = Node(config)
    yield node
    node.publisher.stop()
    node.outbox.close()


def test_node_whose_list_of_machines_is_damaged_sends_its_alerts(
    subscriber: Subscriber, config: Config, node: Node
) -> None:
    """What is no name any more is passed over; the machines that can be read are cleared."""
    (config.state_dir / "machines.txt").write_bytes(b"m#7\nm+8\x00\xff\nm9")
    node.publisher.start()

    node.forget_all_but(["m1"])
    node.put_event("m1", {"id": "n1-0"})

    wait_until(lambda: subscriber.on(f"{NODE}/m1/event"), "the alert")
    assert subscriber.on(f"{NODE}/m9/state") == [b""]


def test_node_of_another_base_ends_what_was_raised_on_the_old_topics(
    subscriber: Subscriber, config: Config, node: Node
) -> None:
    """It ends there, once, with its state cleared; what had ended is left alone."""
    raised = {"id": "n1-0", "type": "start", "node": "n1", "time_ms": 0, "duration_s": 0.0}
    node.put_event("m1", raised)
    node.put_event("m2", {**raised, "id": "n1-1", "type": "end"})
    moved = Node(replace(config, mqtt=replace(config.mqtt, base="hall")))

    moved.publisher.start()
    moved.forget_all_but(["m1"])
    moved.forget_all_but(["m1"])

    wait_until(lambda: len(moved.outbox) == 0, "all alerts to be delivered")
    moved.publisher.stop()
    moved.outbox.close()
    subscriber.wait_for(moved.topics.availability, b"offline")
    told = [json.loads(payload)["type"] for payload in subscriber.on(f"{NODE}/m1/event")]
    assert told == ["start", "end"]
    assert len(subscriber.on(f"{NODE}/m2/event")) == 1
    assert subscriber.on(f"{NODE}/m1/state") == [b""]
    assert subscriber.on(f"{NODE}/m2/state") == []
