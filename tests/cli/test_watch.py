"""``edgeasd watch`` before a real broker and the real daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.detect.models import make_model
from tests.installation import fault_that_passes
from tests.on_terminal import OnTerminal
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

RATE = 16_000
COMMAND = [sys.executable, "-m", "edgeasd", "watch", "--host", "127.0.0.1", "--port"]

pytestmark = pytest.mark.network


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto that runs."""
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


def configure(folder: Path, port: int) -> Path:
    """Write the configuration of a machine that goes wrong and well again, and of one more."""
    make_model(folder / "tiny.onnx")
    (folder / "sound.wav").write_bytes(fault_that_passes())
    path = folder / "edgeasd.toml"
    path.write_text(
        f'node = "n1"\nstate_dir = "state"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
        'base = "acme/hall1"\n'
        '[[machine]]\nname = "press"\nmodel = "tiny.onnx"\n'
        '[machine.file]\npath = "sound.wav"\npaced = false\n'
        '[[machine]]\nname = "fan"\nmodel = "tiny.onnx"\n[machine.simulator]\n'
    )
    return path


def test_watch_shows_the_daemon_its_alarm_its_death_and_the_brokers_return(
    tmp_path: Path, broker: Mosquitto
) -> None:
    """What the terminal shows follows the real daemon, killed in the end, and a lost broker."""
    config = configure(tmp_path, broker.port)
    run = [sys.executable, "-m", "edgeasd", "run", "--config", str(config)]

    with OnTerminal("watch", "--config", config) as watch:
        watch.wait_for("nothing yet on acme/hall1/edgeasd/v1/#")
        with subprocess.Popen(run, stderr=subprocess.DEVNULL) as daemon:
            try:
                watch.wait_for("acme/hall1/n1        online, last sign of life")
                watch.wait_for("acme/hall1/n1/press alarm start, score")
                watch.wait_for("acme/hall1/n1/press alarm end, score")
                watch.wait_for("fan                learning")
            finally:
                daemon.kill()
        watch.wait_for("acme/hall1/n1        OFFLINE")
        watch.wait_for("fan                gone      it was learning")
        broker.kill()
        watch.wait_for("trying again")
        n_before = len(watch.written)
        broker.start()
        wait_until(
            lambda: f"connected to 127.0.0.1:{broker.port}" in watch.written[n_before:],
            "the connection is back",
        )
        assert watch.interrupt() == 0
    assert "1 nodes, 1 dead; 2 machines: 2 gone" in watch.written


def test_watch_into_a_pipe_prints_a_line_for_each_news(tmp_path: Path, broker: Mosquitto) -> None:
    """A log has the changes and nothing that steers a terminal."""
    publisher = Subscriber(broker.port)
    watch = subprocess.Popen(
        [*COMMAND, str(broker.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert watch.stdout is not None
    assert watch.stderr is not None
    assert f"connected to 127.0.0.1:{broker.port}" in watch.stderr.readline()
    # Subscribed a moment after: what is retained comes either way.
    for topic, payload in (
        ("edgeasd/v1/n1/availability", b"online"),
        ("edgeasd/v1/n1/fan/state", b'{"state": "alarm", "reason": "\\u001b[2J"}'),
        ("edgeasd/v1/n1/fan/state", b"not JSON"),
    ):
        publisher._client.publish(topic, payload, qos=1, retain=True).wait_for_publish(60)

    lines = [watch.stdout.readline().split(" ", 2)[2] for _ in range(2)]
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=60.0)
    publisher.close()

    assert watch.returncode == 0
    assert lines[0] == "n1 online\n"
    assert lines[1] in {"n1/fan alarm: ?[2J\n", "n1/fan unknown\n"}


def test_watch_shows_the_worst_that_a_broker_holds(broker: Mosquitto) -> None:
    """Nothing retained ends it, steers the terminal, or hides what is well behind it."""
    steering = "\x1b]0;title\x07\x1b[2J\nok\u202e"
    publisher = Subscriber(broker.port)
    for topic, payload in (
        ("a/availability", b"online"),
        ("a/m/score", b'{"max": 1.0, "threshold": 1e-310}'),
        ("a/m/state", json.dumps({"state": steering, "reason": steering, "since_ms": 1e300})),
        ("a/health", json.dumps({"machines": [{"name": "m", "model_fault": "x" * 255_000}]})),
        ("c/health", b"x" * 10_000_000),
        ("b/health", json.dumps({"machines": [{"name": "m", "model_fault": "x" * 200_000}]})),
        ("n 1\u202e/health", b"{}"),
        ("z/fan/state", b'{"state": "ok"}'),
        ("z/availability", b"online"),
    ):
        message = publisher._client.publish(f"edgeasd/v1/{topic}", payload, qos=1, retain=True)
        message.wait_for_publish(60)

    with OnTerminal("watch", "--host", "127.0.0.1", "--port", broker.port) as watch:
        watch.wait_for("z                    online, no sign of life yet")
        watch.wait_for("fan                ok")
        watch.wait_for("2 messages ignored; ")
        publisher._client.publish("edgeasd/v1/z/health", b'{"time_ms": 0, "uptime_s": 61}')
        watch.wait_for("z                    online, last sign of life")
        assert watch.interrupt() == 0
    publisher.close()

    assert "\x1b]" not in watch.written
    assert "\x1b[2J" not in watch.written
    assert "\u202e" not in watch.written


def test_watch_that_may_not_read_says_so(tmp_path: Path) -> None:
    """A broker that refuses the subscription is told from one that has nothing to say."""
    rules = tmp_path / "dynamic-security.json"
    subprocess.run(
        ["mosquitto_ctrl", "dynsec", "init", rules, "admin", "secret"],
        check=True,
        capture_output=True,
    )
    rules.chmod(0o600)
    plugin = next(Path("/usr/lib").rglob("mosquitto_dynamic_security.so"))
    broker = Mosquitto(
        tmp_path / "strict",
        lines=[f"plugin {plugin}", f"plugin_opt_config_file {rules}"],
    )
    broker.start()

    result = subprocess.run(
        [*COMMAND, str(broker.port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60.0,
    )
    broker.stop()

    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr.splitlines()[-1] == (
        "edgeasd: broker refuses to let anonymous users read 'edgeasd/v1/#'; allow it in the "
        "broker's ACL, or use another user"
    )
