"""The unit file, and the talk with the service manager."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeasd.common.errors import ConfigError, ModelError
from edgeasd.publish.mqtt.credentials import credential
from edgeasd.service.process.systemd import Busy, notify, watchdog_interval_s

UNIT = Path(__file__).parents[2] / "systemd" / "edgeasd.service"
INSTALLED = "/opt/edgeasd/current/bin/edgeasd"


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "install the Debian package systemd"
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_unit_verifies_without_a_word(tmp_path: Path) -> None:
    """``systemd-analyze verify`` has nothing to say; it warns of unknown keys with exit code 0."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(INSTALLED, sys.executable))

    result = _analyze("verify", "--man=no", unit)

    assert (result.returncode, result.stderr) == (0, "")


def test_unit_exposure_is_below_the_bound() -> None:
    """The exposure of the hardened unit is at most 1.2 of 10."""
    result = _analyze("security", "--offline=true", "--threshold=12", "--no-pager", UNIT)

    assert result.returncode == 0, result.stdout + result.stderr


def test_unit_does_not_restart_what_a_restart_does_not_mend() -> None:
    """The exit codes of a wrong configuration and a wrong model are the unit's exceptions."""
    (line,) = [line for line in UNIT.read_text().splitlines() if "PreventExitStatus" in line]

    codes = {int(code) for code in line.partition("=")[2].split()}

    assert codes == {ConfigError.exit_code, ModelError.exit_code}


def test_unit_gives_a_reason_beside_each_hardening_line() -> None:
    """Every group of settings in the service section starts with a comment."""
    service = UNIT.read_text().partition("[Service]")[2].partition("[Install]")[0]

    groups = [group for group in service.strip().split("\n\n") if group]

    assert all("#" in group for group in groups)
    assert service.count("# ") >= 20


@pytest.mark.parametrize("abstract", [False, True])
def test_notify_sends_its_fields_to_the_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    """The fields arrive as one datagram on a socket of either kind."""
    name = f"@edgeasd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", name)

        notify("READY=1", "STATUS=listening")

        assert manager.recv(1024) == b"READY=1\nSTATUS=listening"


def test_notify_without_a_manager_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a service nothing is sent and nothing fails, even if the socket is gone."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")

    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    notify("READY=1")


def test_notify_does_not_wait_for_a_manager_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once the manager's socket is full, a message is given up, with a line in the log."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        while not caplog.records:
            notify("WATCHDOG=1" + 10_000 * " ")

    assert "the service manager cannot be told" in caplog.text


def test_watchdog_interval_is_half_of_what_this_process_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interval is half the time-out, and none if the watchdog is another process's."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_interval_s() == 15.0

    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_interval_s() is None

    monkeypatch.delenv("WATCHDOG_USEC")
    assert watchdog_interval_s() is None


def test_credential_comes_before_the_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the manager hands over is taken; without a manager, or of another name, the file."""
    file = Path("/etc/edgeasd/mqtt_password")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert credential(file) == file

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential(file) == file

    (tmp_path / "mqtt_password").touch()
    assert credential(file) == tmp_path / "mqtt_password"


def test_busy_start_is_told_in_time_and_not_at_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start of many machines outlives the unit's time-out; a short one says nothing of it."""
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        busy, told = Busy(), []
        for _ in range(50):
            now_s += 0.5
            busy.advance()
            with contextlib.suppress(BlockingIOError):
                told.append((now_s, manager.recv(1024)))

    assert [at_s for at_s, _ in told] == [1010.0, 1020.0]
    assert told[0][1] == b"EXTEND_TIMEOUT_USEC=30000000\nWATCHDOG=1"
