"""The daemon under a real service manager: ready, watchdog, restart, stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.namespaces import eventually
from tests.deploy.user_manager import SHIPPED, UserManager
from tests.detect.faulty_models import make_stalling
from tests.detect.models import make_model
from tests.publish.brokers import Mosquitto, Subscriber

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="a manager of its own needs root"),
]

AVAILABILITY = "edgeasd/v1/n1/availability"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto that runs."""
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    """A subscriber of everything."""
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.close()


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    """The configuration of one simulated machine that is well."""
    make_model(tmp_path / "tiny.onnx")
    path = tmp_path / "edgeasd.toml"
    path.write_text(
        f'node = "n1"\nstate_dir = "state"\n[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        '[[machine]]\nname = "m1"\nmodel = "tiny.onnx"\n'
        "[machine.simulator]\nfault_duration_s = 0\n"
    )
    return path


@pytest.fixture
def manager(tmp_path: Path, config: Path) -> Iterator[UserManager]:
    """A service manager that knows the unit."""
    with UserManager(tmp_path / "manager") as manager:
        manager.add(config)
        yield manager


def _wait_for(manager: UserManager, name: str, value: str) -> None:
    eventually(lambda: manager.show(name) == value, f"{name}={value}\n{manager.said()}")


def _wait_for_second_online(subscriber: Subscriber) -> None:
    eventually(lambda: subscriber.on(AVAILABILITY).count(b"online") == 2, "online again")


def test_service_is_active_only_when_it_listens(
    tmp_path: Path, manager: UserManager, config: Path, subscriber: Subscriber
) -> None:
    """The unit is activating until the daemon has all it needs, and active once it says so."""
    make_stalling(make_model(tmp_path / "slow.onnx"))
    slow = (
        config.read_text().partition("[[machine]]")[2].replace("m1", "m2").replace("tiny", "slow")
    )
    config.write_text(f"{config.read_text()}[[machine]]{slow}")

    manager.systemctl("start", "--no-block", SHIPPED.name)
    # It surely runs, and waits for the trial of a model, which takes 5 s of computing.
    subscriber.wait_for(AVAILABILITY, b"online")
    assert manager.show("ActiveState") == "activating"
    _wait_for(manager, "ActiveState", "active")

    assert manager.show("StatusText").startswith("listening to 1 machines, 1 refused")


def test_service_stopped_says_offline_and_ends_in_time(
    manager: UserManager, subscriber: Subscriber
) -> None:
    """``systemctl stop`` has ``offline`` published and ends with code 0 before it would kill."""
    manager.systemctl("start", SHIPPED.name)
    subscriber.wait_for(AVAILABILITY, b"online")
    began_s = time.monotonic()

    manager.systemctl("stop", SHIPPED.name)

    assert time.monotonic() - began_s < 20, "TimeoutStopSec"
    assert [manager.show(name) for name in ("ActiveState", "Result", "ExecMainStatus")] == [
        "inactive",
        "success",
        "0",
    ]
    subscriber.wait_for(AVAILABILITY, b"offline")


def test_service_killed_is_restarted(manager: UserManager, subscriber: Subscriber) -> None:
    """After ``kill -9`` the daemon is back by itself, and says so."""
    manager.systemctl("start", SHIPPED.name)
    subscriber.wait_for(AVAILABILITY, b"online")

    manager.systemctl("kill", "--signal=KILL", SHIPPED.name)

    _wait_for_second_online(subscriber)
    assert manager.show("NRestarts") == "1"


def test_service_stalled_is_killed_by_the_watchdog_and_restarted(
    manager: UserManager, subscriber: Subscriber
) -> None:
    """A daemon that stands still is ended with a word of it, and started anew."""
    manager.systemctl("start", SHIPPED.name)
    subscriber.wait_for(AVAILABILITY, b"online")

    manager.systemctl("kill", "--signal=STOP", SHIPPED.name)

    _wait_for_second_online(subscriber)
    assert int(manager.show("NRestarts")) >= 1
    assert "Fatal Python error: Aborted" in manager.said()


def test_service_with_a_wrong_configuration_is_not_restarted(
    manager: UserManager, config: Path
) -> None:
    """Exit code 78 is final: the unit is failed, and the message says why."""
    config.write_text("nodes = 1\n")

    started = manager.systemctl("start", SHIPPED.name, check=False)

    assert started.returncode != 0
    # Restarts would come 0.2 s apart.
    threading.Event().wait(1.0)
    assert [manager.show(name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")] == [
        "failed",
        "78",
        "0",
    ]
    assert "unknown key 'nodes'" in manager.said()


def test_service_reloaded_is_the_same_process(manager: UserManager, subscriber: Subscriber) -> None:
    """``systemctl reload`` ends nothing: the process stays, and stays online."""
    manager.systemctl("start", SHIPPED.name)
    subscriber.wait_for(AVAILABILITY, b"online")
    pid = manager.show("MainPID")

    manager.systemctl("reload", SHIPPED.name)

    # A signal without a handler would end it within this time.
    threading.Event().wait(1.0)
    assert [manager.show(name) for name in ("ActiveState", "MainPID")] == ["active", pid]
    assert b"offline" not in subscriber.on(AVAILABILITY)
