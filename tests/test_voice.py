"""What a node says over MQTT, without the daemon around it."""

from __future__ import annotations

from collections.abc import Iterator
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
