"""The unit as it is shipped, under the service manager of a booted Debian 12."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeasd import __version__
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.deploy.checkouts import make_broken, make_newer
from tests.deploy.debian import INSTALL, Booted, Debian
from tests.deploy.namespaces import eventually
from tests.detect.models import make_model, normal_sound
from tests.publish.brokers import Mosquitto, Subscriber

pytestmark = [pytest.mark.slow, pytest.mark.network]

NODE = "edgeasd/v1/n1"
AVAILABILITY = f"{NODE}/availability"
SIMULATOR = "[machine.simulator]\nfault_duration_s = 0"
RATE = 16_000
PROBE = Path(__file__).with_name("probe.py")


class Computer:
    """A booted Debian with edgeasd, its broker, and a subscriber of everything."""

    def __init__(self, debian: Debian, broker: Mosquitto) -> None:
        self.debian = debian
        self.folder = debian.root / "etc/edgeasd"
        self.drop_in = debian.root / "etc/systemd/system/edgeasd.service.d/test.conf"
        self.drop_in.parent.mkdir()
        self.broker = broker
        self.subscriber = Subscriber(broker.port)
        self.booted: Booted
        make_model(self.folder / "models/tiny.onnx")
        password = self.folder / "mqtt_password"
        password.touch(mode=0o600)
        password.write_text("secret\n")
        self.configure(SIMULATOR)

    def configure(self, source: str) -> None:
        """Write the configuration of one machine and how its unit differs from the shipped one."""
        (self.folder / "edgeasd.toml").write_text(
            f'node = "n1"\n[mqtt]\nhost = "127.0.0.1"\nport = {self.broker.port}\n'
            'username = "edge"\n'
            'password_file = "mqtt_password"\n'
            f'[[machine]]\nname = "m1"\nmodel = "models/tiny.onnx"\n{source}\n'
        )

    def change_unit(self, *lines: str) -> None:
        """Change the service by a drop-in; without *lines* back to what is shipped."""
        self.drop_in.write_text("\n".join(["[Service]", *lines, ""]))
        self.booted.run("systemctl", "daemon-reload")

    def restart(self) -> None:
        """Start the service anew, with no past, and wait for its word."""
        self.booted.run("systemctl", "stop", "edgeasd")
        self.booted.run("systemctl", "reset-failed", check=False)
        self.subscriber.messages.clear()
        self.booted.run("systemctl", "start", "edgeasd")
        self.wait_for_online(1)

    def wait_for_online(self, n_times: int, deadline_s: float = 60.0) -> float:
        """Wait for the *n_times*-th ``online``, and return when it came."""
        eventually(
            lambda: self.subscriber.on(AVAILABILITY).count(b"online") >= n_times,
            f"online, time {n_times}",
            deadline_s,
        )
        messages = [m for m in self.subscriber.messages if m.topic == AVAILABILITY]
        return [m for m in messages if m.payload == b"online"][n_times - 1].received_s

    def health(self) -> dict[str, Any]:
        """Return the last health message."""
        document: dict[str, Any] = json.loads(self.subscriber.on(f"{NODE}/health")[-1])
        return document


@pytest.fixture(scope="module")
def booted_computer(
    installed_debian: Debian, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Computer]:
    """A computer whose configuration was there before the boot."""
    folder = tmp_path_factory.mktemp("booted")
    # Whoever names an account must have its password; the subscriber names none.
    broker = Mosquitto(
        folder / "broker", passwords={"edge": "secret"}, lines=["allow_anonymous true"]
    )
    broker.start()
    computer = Computer(installed_debian.copy(folder / "root"), broker)
    with computer.debian.boot() as computer.booted:
        yield computer
    computer.subscriber.close()
    broker.stop()
    computer.debian.remove()


@pytest.fixture
def computer(booted_computer: Computer) -> Computer:
    """That computer, with the shipped unit and a simulated machine, just started."""
    booted_computer.configure(SIMULATOR)
    booted_computer.change_unit()
    booted_computer.restart()
    return booted_computer


def test_booted_computer_listens_by_itself(booted_computer: Computer) -> None:
    """The enabled unit comes up with the computer, and the manager has nothing to complain of."""
    booted_computer.wait_for_online(1)

    assert booted_computer.booted.show("ActiveState") == "active"
    assert booted_computer.booted.show("UnitFileState") == "enabled"
    said = booted_computer.booted.journal()
    assert not [line for line in said.splitlines() if "nsupported" in line or "gnoring" in line]


def test_service_user_is_made_up_and_owns_the_state_alone(computer: Computer) -> None:
    """The daemon runs as nobody's account, and only that may read its state."""
    pid = computer.booted.show("MainPID")

    uid = int(computer.booted.run("stat", "--format=%u", f"/proc/{pid}").stdout)
    owner, mode = computer.booted.run(
        "stat", "--format=%u %a", "/var/lib/private/edgeasd"
    ).stdout.split()

    assert 61184 <= uid <= 65519
    assert (int(owner), mode) == (uid, "700")


def test_check_as_root_does_not_spoil_the_state(computer: Computer) -> None:
    """``edgeasd check`` before and beside the service leaves files that the service can write."""
    computer.booted.run("systemctl", "stop", "edgeasd")
    computer.booted.run("sh", "-c", "rm -rf /var/lib/edgeasd /var/lib/private/edgeasd")

    before = computer.booted.run("edgeasd", "check", check=False).stdout
    computer.restart()
    beside = computer.booted.run("edgeasd", "check", check=False).stdout
    computer.restart()
    eventually(lambda: computer.subscriber.on(f"{NODE}/health"), "it tells its health")

    assert "ok   state directory" in before
    assert "ok   state directory" in beside
    assert "ok   broker" in beside
    assert computer.health()["storage"]["ok"]


def test_service_may_do_what_it_must_and_no_more(computer: Computer) -> None:
    """Each line of the sandbox holds: seen from a process in the daemon's place."""
    shutil.copy(PROBE, computer.folder / "probe.py")
    computer.booted.run("mknod", "--mode=666", "/dev/probed-disk", "b", "254", "0")
    computer.booted.run("systemctl", "stop", "edgeasd")
    computer.change_unit(
        "Type=exec",
        "WatchdogSec=0",
        "ExecStart=",
        "ExecStart=/opt/edgeasd/current/bin/python /etc/edgeasd/probe.py",
    )

    computer.booted.run("systemctl", "start", "edgeasd")
    eventually(lambda: computer.booted.show("ActiveState") == "inactive", "the probe ends")
    (line,) = [
        one for one in computer.booted.journal().splitlines() if one.startswith('{"outcomes"')
    ]
    report = json.loads(line)

    assert report["outcomes"] == {
        "write configuration": "EROFS",
        "write program": "EROFS",
        "write state": "done",
        "execute written": "EACCES",
        "read a home": "EACCES",
        "read the password's file": "EACCES",
        "read a disk": "EPERM",
        "memory to write and run": "EPERM",
        "namespace": "EPERM",
        "packet socket": "EAFNOSUPPORT",
        "datagram to this computer": "done",
        "datagram to the plant": "done",
        "datagram to the world": "EPERM",
        "set user id": "EPERM",
        "real time": "EPERM",
        "nicer": "EPERM",
        "mount": "failed",
        "see process 1": "ENOENT",
    }
    assert report["password"] == "secret\n"
    assert 61184 <= report["uid"] <= 65519
    assert (report["capabilities"], report["no_new_privileges"], report["seccomp"]) == (0, 1, 2)
    assert report["nice"] == -5


def test_service_without_a_password_file_starts(computer: Computer) -> None:
    """Where the broker wants no password there is no file, and the empty credential stands in."""
    password = computer.folder / "mqtt_password"
    password.rename(computer.folder / "away")
    try:
        computer.booted.run("systemctl", "restart", "edgeasd")
        eventually(
            lambda: "check mqtt.username" in computer.booted.journal(), "it is refused, and on"
        )
        assert computer.booted.show("ActiveState") == "active"
    finally:
        (computer.folder / "away").rename(password)


def test_service_stopped_says_offline_and_ends_in_time(computer: Computer) -> None:
    """``systemctl stop`` has ``offline`` published, with code 0, within its 20 s."""
    began_s = time.monotonic()
    computer.booted.run("systemctl", "stop", "edgeasd")
    took_s = time.monotonic() - began_s

    print(f"stop: {took_s:.2f} s")
    assert took_s < 20
    assert [computer.booted.show(name) for name in ("Result", "ExecMainStatus")] == [
        "success",
        "0",
    ]
    computer.subscriber.wait_for(AVAILABILITY, b"offline")


def test_service_reloaded_takes_up_a_machine(computer: Computer) -> None:
    """``systemctl reload`` reaches the daemon in its sandbox, which goes on with one more."""
    pid = computer.booted.show("MainPID")
    second = f'[[machine]]\nname = "m2"\nmodel = "models/tiny.onnx"\n{SIMULATOR}'
    computer.configure(f"{SIMULATOR}\n{second}")

    computer.booted.run("systemctl", "reload", "edgeasd")
    eventually(lambda: computer.subscriber.on(f"{NODE}/m2/state"), "the second machine has a state")

    assert computer.booted.show("MainPID") == pid
    assert b"offline" not in computer.subscriber.on(AVAILABILITY)


def test_service_killed_is_restarted(computer: Computer) -> None:
    """``kill -9`` costs the will, five seconds and the start."""
    began_s = time.monotonic()
    computer.booted.run("systemctl", "kill", "--signal=KILL", "edgeasd")

    back_s = computer.wait_for_online(2) - began_s
    print(f"killed: offline, then online after {back_s:.1f} s")
    assert b"offline" in computer.subscriber.on(AVAILABILITY)
    assert computer.booted.show("NRestarts") == "1"


def test_service_stalled_is_killed_by_the_watchdog_and_restarted(
    computer: Computer,
) -> None:
    """A daemon that stands still is ended after 30 s, says where it stood, and is back."""
    began_s = time.monotonic()
    computer.booted.run("systemctl", "kill", "--signal=STOP", "edgeasd")

    back_s = computer.wait_for_online(2, 120) - began_s
    print(f"stalled: online again after {back_s:.1f} s")
    assert "Watchdog timeout" in computer.booted.journal()
    assert "Fatal Python error: Aborted" in computer.booted.journal()


def test_service_hears_a_microphone_and_restarts_when_it_hangs(computer: Computer) -> None:
    """Sound comes through PortAudio and ALSA in the sandbox; a hung device ends in a restart."""
    alsa = computer.folder / "alsa"
    alsa.mkdir()
    with VirtualMicrophone(alsa) as microphone:
        configuration = alsa / "asound.conf"
        inside = configuration.read_text().replace(str(computer.debian.root), "")
        configuration.write_text(inside)
        computer.configure(f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}')
        computer.change_unit(
            "Environment=ALSA_CONFIG_PATH=/usr/share/alsa/alsa.conf:/etc/edgeasd/alsa/asound.conf"
        )
        microphone.feed((32_768 * normal_sound(20 * RATE)).astype(np.int16))
        computer.restart()
        eventually(
            lambda: any(
                b'"state":"ok"' in one for one in computer.subscriber.on(f"{NODE}/m1/state")
            ),
            "ten seconds of sound were scored",
        )
        began_s = time.monotonic()
        microphone.pause()
        back_s = computer.wait_for_online(2, 120) - began_s

    print(f"hung microphone: online again after {back_s:.1f} s")
    states = [json.loads(one)["state"] for one in computer.subscriber.on(f"{NODE}/m1/state")]
    assert "no_audio" in states


def test_service_with_a_wrong_configuration_is_not_restarted(computer: Computer) -> None:
    """Exit code 78 is final."""
    (computer.folder / "edgeasd.toml").write_text("nodes = 1\n")

    started = computer.booted.run("systemctl", "restart", "edgeasd", check=False)

    assert started.returncode != 0
    time.sleep(7)  # RestartSec=5
    shown = [computer.booted.show(name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert shown == ["failed", "78", "0"]


def test_upgrade_that_does_not_run_is_taken_back(computer: Computer) -> None:
    """A new version that installs and does not run: the old one is running again at the end."""
    make_broken(computer.debian.root / "srv/broken")
    before = (computer.debian.root / "opt/edgeasd/current").readlink()

    result = computer.booted.run("/srv/broken/deploy/install.sh", check=False)

    assert result.returncode == 1
    assert "the new version does not run, the old one is back" in result.stdout
    assert (computer.debian.root / "opt/edgeasd/current").readlink() == before
    eventually(lambda: computer.booted.show("ActiveState") == "active", "the old version runs")
    assert len(list((computer.debian.root / "opt/edgeasd/releases").iterdir())) == 1


def test_upgrade_restarts_the_service_and_keeps_its_data(computer: Computer) -> None:
    """The new version runs on the old configuration and outbox."""
    make_newer(computer.debian.root / "srv/newer")
    outbox = computer.debian.root / "var/lib/private/edgeasd/outbox.sqlite3"
    before = outbox.stat().st_ino
    configuration = (computer.folder / "edgeasd.toml").read_text()

    said = computer.booted.run("/srv/newer/deploy/install.sh").stdout
    eventually(lambda: computer.health()["version"] == "9.9.9", "the new version tells its health")
    computer.booted.run(INSTALL)
    eventually(lambda: computer.health()["version"] == __version__, "and back")

    assert "edgeasd, version 9.9.9 is installed" in said
    assert outbox.stat().st_ino == before
    assert (computer.folder / "edgeasd.toml").read_text() == configuration
    with closing(sqlite3.connect(outbox)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_uninstall_stops_the_service_and_purge_removes_its_data(computer: Computer) -> None:
    """The service says ``offline`` and is unknown; its data stays until it is purged."""
    state = computer.debian.root / "var/lib/private/edgeasd"

    computer.booted.run(INSTALL, "--uninstall")

    computer.subscriber.wait_for(AVAILABILITY, b"offline")
    assert computer.booted.show("LoadState") == "not-found"
    assert (state / "outbox.sqlite3").exists()
    computer.booted.run(INSTALL, "--purge")
    assert not state.exists()
    assert not computer.folder.exists()
