"""The whole daemon: a recording in, a real broker out, and the faults between them."""

from __future__ import annotations

import json
import math
import signal
import socket
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile

from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.detect.models import normal_sound
from tests.installation import (
    FILE,
    NODE,
    RATE,
    SCHEMAS,
    SIMULATOR,
    Installation,
    events,
    finish,
    reload,
)
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

pytestmark = pytest.mark.network


def test_daemon_publishes_one_start_and_one_end_of_a_fault(
    broker: Mosquitto, installation: Installation
) -> None:
    """The fault of the recording is one start and one end, in order, with all that they carry."""
    broker.start()
    subscriber = Subscriber(broker.port)
    installation.configure(FILE)

    finish(installation.start())
    subscriber.wait_for(f"{NODE}/availability", b"offline")

    start, end = events(subscriber)
    assert (start["type"], end["type"]) == ("start", "end")
    assert 25 * RATE < start["first_sample"] < 30 * RATE
    assert end["duration_s"] == (end["first_sample"] - start["first_sample"]) / RATE
    assert (start["seq"], end["seq"]) == (1, 2)
    assert start["model"]["id"] == "tiny"
    state = json.loads(subscriber.on(f"{NODE}/m1/state")[-1])
    assert (state["state"], state["event_id"]) == ("ok", end["id"])
    subscriber.close()


def test_daemon_payloads_match_their_schemas(broker: Mosquitto, installation: Installation) -> None:
    """Every payload on every topic validates against the schema of its kind."""
    broker.start()
    subscriber = Subscriber(broker.port)

    play(installation, subscriber, FILE)
    subscriber.close()

    seen = set()
    for message in subscriber.messages:
        kind = message.topic.rpartition("/")[2]
        if kind != "availability" and message.payload:
            schema = json.loads((SCHEMAS / f"{kind}.schema.json").read_text())
            jsonschema.validate(message.json, schema)
            seen.add(kind)
    assert seen == {"event", "state", "score", "health"}


def play(installation: Installation, subscriber: Subscriber, machine: str) -> None:
    """Have the daemon play *machine* from a moment on at which none of its scores is dropped."""
    installation.configure(SIMULATOR)
    installation.config.write_text(installation.config.read_text().replace('"m1"', '"m0"'))
    process = installation.start()
    subscriber.wait_for(f"{NODE}/availability", b"online")
    installation.configure(machine)
    reload(process)
    finish(process)
    subscriber.wait_for(f"{NODE}/availability", b"offline")


@pytest.mark.parametrize(
    ("rate", "form"), [(16_000, "wav"), (16_000, "flac"), (44_100, "wav"), (48_000, "flac")]
)
def test_daemon_scores_equal_those_of_a_replay(
    broker: Mosquitto, installation: Installation, rate: int, form: str
) -> None:
    """``edgeasd score`` gives the scores that the daemon published, bit for bit, at any rate."""
    broker.start()
    subscriber = Subscriber(broker.port)
    samples, _ = soundfile.read(installation.folder / "sound.wav", dtype="int16")
    file = f"other.{form}"
    soundfile.write(installation.folder / file, samples, rate)

    play(installation, subscriber, FILE.replace("sound.wav", file))
    subscriber.close()

    rows = installation.score(file)
    published = [json.loads(payload) for payload in subscriber.on(f"{NODE}/m1/score")]
    assert_same_scores(published, rows)
    assert sum(message["n_scores"] for message in published) == len(rows)
    told = [(event["type"], event["score"]) for event in events(subscriber)]
    assert told == [(row["event"], row["score"]) for row in rows if row["event"]]


def assert_same_scores(published: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Check that each score message summarises exactly the rows up to its position."""
    assert published
    at = {row["first_sample"]: index for index, row in enumerate(rows)}
    for message in published:
        last = at[message["first_sample"]]
        scores = [row["score"] for row in rows[last + 1 - message["n_scores"] : last + 1]]
        assert message["score"] == scores[-1]
        assert (message["min"], message["max"]) == (min(scores), max(scores))
        assert message["mean"] == math.fsum(scores) / len(scores)


def test_daemon_delivers_when_the_broker_comes_later(
    broker: Mosquitto, installation: Installation
) -> None:
    """A broker that is away at start is no obstacle: its events wait, and arrive in order."""
    installation.configure(FILE)
    log = finish(installation.start())
    assert "connection refused" in log

    broker.start()
    subscriber = Subscriber(broker.port)
    installation.configure(SIMULATOR)
    process = installation.start()
    wait_until(lambda: len(events(subscriber)) == 2, "both events of the run before")

    assert [event["type"] for event in events(subscriber)] == ["start", "end"]
    process.terminate()
    finish(process)
    subscriber.close()


def test_daemon_of_several_machines_tells_them_apart(
    broker: Mosquitto, installation: Installation
) -> None:
    """Machines of one daemon have topics of their own; one that is well says nothing."""
    broker.start()
    subscriber = Subscriber(broker.port)
    sound, _ = soundfile.read(installation.folder / "sound.wav", frames=20 * RATE, dtype="int16")
    soundfile.write(installation.folder / "well.wav", sound, RATE)
    installation.configure(FILE, FILE.replace("sound.wav", "well.wav"))

    finish(installation.start())
    subscriber.wait_for(f"{NODE}/availability", b"offline")
    subscriber.close()

    assert [event["type"] for event in events(subscriber, "m1")] == ["start", "end"]
    assert events(subscriber, "m2") == []
    health = json.loads(subscriber.on(f"{NODE}/health")[-1])
    assert [machine["name"] for machine in health["machines"]] == ["m1", "m2"]


def test_daemon_stops_cleanly_on_sigterm(broker: Mosquitto, installation: Installation) -> None:
    """SIGTERM ends the daemon with exit code 0 after it said ``offline``."""
    broker.start()
    subscriber = Subscriber(broker.port)
    installation.configure(SIMULATOR)
    process = installation.start()
    subscriber.wait_for(f"{NODE}/availability", b"online")

    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    finish(process)

    assert time.monotonic() - began < 20  # TimeoutStopSec of the unit
    subscriber.wait_for(f"{NODE}/availability", b"offline")
    subscriber.close()


def test_daemon_killed_leaves_its_will(broker: Mosquitto, installation: Installation) -> None:
    """After ``kill -9`` the broker says ``offline`` in the daemon's place, retained."""
    broker.start()
    subscriber = Subscriber(broker.port)
    installation.configure(SIMULATOR)
    process = installation.start()
    subscriber.wait_for(f"{NODE}/availability", b"online")

    process.kill()

    subscriber.wait_for(f"{NODE}/availability", b"offline")
    late = Subscriber(broker.port)
    assert late.wait_for(f"{NODE}/availability", b"offline").retain
    late.close()
    subscriber.close()


def test_daemon_whose_events_are_refused_says_so_in_its_health(
    broker: Mosquitto, installation: Installation, tmp_path: Path
) -> None:
    """Under MQTT 5 consumers of the health message learn that alerts do not get out, and why."""
    (tmp_path / "acl").write_text(f"topic readwrite #\ntopic deny {NODE}/m1/event\n")
    broker.add_lines(f"acl_file {tmp_path / 'acl'}")
    broker.start()
    subscriber = Subscriber(broker.port)
    installation.configure(FILE, mqtt='version = "5"')

    finish(installation.start())
    subscriber.wait_for(f"{NODE}/availability", b"offline")
    subscriber.close()

    health = json.loads(subscriber.on(f"{NODE}/health")[-1])
    assert health["mqtt"]["fault"] == (
        f"broker at 127.0.0.1:{broker.port} refuses messages on {NODE}/m1/event (Not authorized); "
        "check its access control list"
    )
    assert health["mqtt"]["connected"]
    assert health["mqtt"]["queued_events"] == 2


def test_daemon_with_a_refused_password_says_so_and_goes_on(
    broker: Mosquitto, installation: Installation, tmp_path: Path
) -> None:
    """A wrong password is one line with its remedy; the right one, once there, is used."""
    broker = Mosquitto(tmp_path / "locked", passwords={"edge": "right"})
    broker.start()
    installation.port = broker.port
    (installation.folder / "password").write_text("wrong\n")
    installation.configure(SIMULATOR, mqtt='username = "edge"\npassword_file = "password"')
    process = installation.start()
    assert process.stderr is not None
    line = next(line for line in process.stderr if "refuses" in line)

    assert "check mqtt.username and mqtt.password_file" in line
    (installation.folder / "password").write_text("right\n")
    connected = next(line for line in process.stderr if "connected to" in line)
    assert str(broker.port) in connected
    process.terminate()
    finish(process)
    broker.stop()


def test_daemon_tells_the_service_manager_of_its_progress(
    broker: Mosquitto, installation: Installation, tmp_path: Path
) -> None:
    """It says ready, feeds the watchdog while sound comes, and says when it stops."""
    broker.start()
    installation.configure(SIMULATOR)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = installation.start(
            NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000"
        )

        assert manager.recv(1024).startswith(b"READY=1\n")
        assert [manager.recv(1024) for _ in range(3)] == [b"WATCHDOG=1"] * 3

        process.terminate()
        said = b"WATCHDOG=1"
        while said == b"WATCHDOG=1":
            said = manager.recv(1024)
        assert said == b"STOPPING=1"
        finish(process)


def test_daemon_of_a_dead_microphone_says_flat_signal_and_no_alarm(
    broker: Mosquitto, installation: Installation
) -> None:
    """Sound that turns to digital silence is told as such; it raises no alarm."""
    broker.start()
    subscriber = Subscriber(broker.port)
    silence = np.zeros(20 * RATE, np.float32)
    soundfile.write(
        installation.folder / "dead.wav",
        np.concatenate((normal_sound(15 * RATE, 5), silence)),
        RATE,
    )
    installation.configure(FILE.replace("sound.wav", "dead.wav"))

    finish(installation.start())
    subscriber.wait_for(f"{NODE}/availability", b"offline")
    subscriber.close()

    assert events(subscriber) == []
    assert json.loads(subscriber.on(f"{NODE}/m1/state")[-1])["state"] == "flat_signal"


@pytest.mark.audio_device
def test_daemon_stops_cleanly_though_its_microphone_hangs(
    broker: Mosquitto, installation: Installation, alsa: VirtualMicrophone
) -> None:
    """A stuck device is told as ``no_audio``, and SIGTERM still ends the daemon in order."""
    broker.start()
    subscriber = Subscriber(broker.port)
    installation.configure(f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}')
    process = installation.start(**alsa.environment)
    alsa.feed((32_768 * normal_sound(3 * RATE)).astype(np.int16))
    wait_until(
        lambda: any(b"reconnect it" in state for state in subscriber.on(f"{NODE}/m1/state")),
        "the state says that the microphone gives no sound",
    )
    process.terminate()
    finish(process)
    subscriber.wait_for(f"{NODE}/availability", b"offline")
    subscriber.close()

    state = json.loads(subscriber.on(f"{NODE}/m1/state")[-1])
    assert state["state"] == "no_audio"
    assert state["reason"] == "microphone 'vmic' is open but gives no sound; reconnect it"
