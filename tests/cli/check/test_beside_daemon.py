"""`edgeasd check` beside a daemon that runs by an account: it is asked, and not disturbed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeasd.cli.check.broker import check_broker_steps
from edgeasd.common.config.keys import Config, MachineConfig, MqttConfig
from edgeasd.publish.mqtt.status import StatusFile
from edgeasd.service.node import Node
from tests.publish.brokers import Mosquitto, wait_until

pytestmark = pytest.mark.network


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """One that lets an account connect only once, as that of deploy/ does."""
    broker = Mosquitto(tmp_path / "broker", {"n1": "right"}, ["use_username_as_clientid true"])
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Config:
    """A node of that broker."""
    (tmp_path / "password").write_text("right")
    (tmp_path / "password").chmod(0o600)
    mqtt = MqttConfig("127.0.0.1", broker.port, username="n1", password_file=tmp_path / "password")
    return Config((MachineConfig("m", Path("m.onnx")),), "n1", tmp_path / "state", mqtt=mqtt)


@pytest.fixture
def node(config: Config) -> Iterator[Node]:
    """What the daemon says, connected."""
    node = Node(config)
    node.publisher.start()
    wait_until(lambda: node.publisher.connected and not node.publisher.fault, "connected")
    node.look_after()
    yield node
    node.stop()
    node.outbox.close()


def reports(config: Config) -> dict[str, tuple[str, str]]:
    """Return grade and text of each step."""
    return {
        one.subject.removeprefix("broker: "): (one.grade, one.text)
        for one in check_broker_steps(config)
    }


def test_check_beside_the_daemon_asks_it_and_leaves_it_connected(
    config: Config, node: Node
) -> None:
    """A broker that lets an account connect only once would disconnect the daemon."""
    found = reports(config)

    assert list(found) == ["name", "connection", "password", "daemon"]
    assert found["daemon"] == (
        "ok",
        "it is connected as user 'n1' and reports no fault; no second connection was tried, as "
        "some brokers let an account connect only once",
    )
    assert (node.publisher.connected, node.publisher.reconnects) == (True, 0)


def test_check_beside_a_daemon_with_a_fault_tells_it(config: Config, node: Node) -> None:
    """What the daemon found out is what the check finds."""
    StatusFile(config.state_dir).write(config.mqtt, "the fault", connected=True)

    assert reports(config)["daemon"] == ("failure", "the running daemon reports: the fault")
    assert node.publisher.connected


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda mqtt: replace(mqtt, host="localhost"), id="another-broker"),
        pytest.param(lambda mqtt: replace(mqtt, username="n2"), id="another-account"),
    ],
)
def test_check_of_what_the_daemon_does_not_use_tries_it(
    config: Config, node: Node, change: Callable[[MqttConfig], MqttConfig]
) -> None:
    """A configuration that is not in force yet is what a check is for."""
    assert "login" in reports(replace(config, mqtt=change(config.mqtt)))
    assert node is not None


def test_check_when_the_daemon_is_gone_tries_all(config: Config, node: Node) -> None:
    """What a daemon left that was killed is not believed."""
    path = config.state_dir / "connection.json"
    said = json.loads(path.read_text())
    node.stop()
    path.write_text(json.dumps(said | {"started": "1"}))

    found = reports(config)

    assert found["message"][0] == "ok"
    assert "daemon" not in found


@pytest.mark.parametrize(
    "change",
    [
        {"pid": 0},
        {"pid": -1},
        {"pid": 10**30},
        {"pid": "x"},
        {"pid": None},
        {"started": ""},
        {"started": None},
        {"connected": 1},
    ],
)
def test_status_that_is_damaged_says_of_no_connected_daemon(
    tmp_path: Path, config: Config, change: dict[str, object]
) -> None:
    """Whatever stands in the file, it is read without harm."""
    status = StatusFile(tmp_path)
    status.write(config.mqtt, "", connected=True)
    path = tmp_path / "connection.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | change))

    read = status.read()

    assert read is None or not read.connected


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"[]", b"7", b"null", b"{}"])
def test_status_that_is_none_is_of_no_daemon(tmp_path: Path, content: bytes) -> None:
    """A file of something else is as no file; a pipe is not waited for."""
    path = tmp_path / "connection.json"
    path.write_bytes(content)
    assert StatusFile(tmp_path).read() is None

    path.unlink()
    os.mkfifo(path)
    assert StatusFile(tmp_path).read() is None
