"""Checks of this computer: its disk, its clock, its service."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edgeasd.cli.check.report import CheckResult
from edgeasd.common.clock import clock_synchronized
from edgeasd.common.errors import EdgeasdError, StorageError
from edgeasd.common.files.folders import opened_folder
from edgeasd.publish.outbox.snapshot import count_waiting

_UNIT = "edgeasd.service"
_BOOTED = Path("/run/systemd/system")
"""Folder that exists if, and only if, systemd is the init system; sd_booted(3)."""
_PROPERTIES = (
    *("LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "NRestarts", "TasksMax"),
)
_LITTLE_BYTES = 100 * 2**20
"""Free space below which the check warns, bytes."""
_TIMEOUT_S = 10.0


def check_state_directory(state_dir: Path) -> CheckResult:
    """Check whether alerts can be kept on disk, without leaving a file behind.

    Raises:
        StorageError: If they cannot.
    """
    there = next(path for path in (state_dir, *state_dir.absolute().parents) if _exists(path))
    _require_writable(state_dir, there)
    free = shutil.disk_usage(there).free
    text = f"{state_dir}, {free / 1e9:.1f} GB free"
    if free < _LITTLE_BYTES:
        return CheckResult(
            f"{text}; free some space, or alerts can soon no longer be kept", doubtful=True
        )
    if there != state_dir:
        return CheckResult(f"{text}, created when the daemon starts")
    n_waiting = count_waiting(state_dir / "outbox.sqlite3")
    return CheckResult(f"{text}, {n_waiting} alerts not yet delivered")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # a folder above it is closed to this user
        return False


def _require_writable(state_dir: Path, there: Path) -> None:
    rule = f"state_dir={state_dir} must be a directory that the user who runs edgeasd can write"
    if not there.is_dir():
        raise StorageError(f"{rule} ({there} is not a directory); choose another")
    if there != state_dir and os.access(there, os.W_OK | os.X_OK):
        return
    try:
        with opened_folder(there) as folder:
            # The file has no name, or one that nobody can foresee.
            with tempfile.TemporaryFile(dir=f"/proc/self/fd/{folder}") as file:
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            if os.geteuid() == 0:
                _require_owner_can_write(state_dir, folder)
    except OSError as exc:
        raise StorageError(
            f"{rule} ({exc.strerror}); run this check as that user, change the owner, or choose "
            "another directory"
        ) from exc


def _require_owner_can_write(state_dir: Path, folder: int) -> None:
    """Check for root, who can write everywhere, whether the owner of the directory can.

    Raises:
        StorageError: If the owner cannot write to the directory or to a file in it.
    """
    status = os.fstat(folder)
    if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        raise StorageError(f"{state_dir} is closed to its owner; sudo chmod u+rwx {state_dir}")
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # a running daemon may remove it meanwhile
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if _is_plain(found) and found.st_uid != status.st_uid:
                raise StorageError(
                    f"{state_dir}: {name!r} in it belongs to another user, so the daemon cannot "
                    f"write it; sudo chown -hR --reference={state_dir}/ {state_dir}/"
                )


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def check_clock() -> CheckResult:
    """Check whether the times of alerts can be trusted."""
    if clock_synchronized():
        return CheckResult("synchronized with a time server")
    return CheckResult(
        "not known to be synchronized with a time server, so alerts may carry a wrong time; run: "
        "sudo timedatectl set-ntp true",
        doubtful=True,
    )


def unit_properties() -> dict[str, str]:
    """Return the properties of the service in systemd; empty where systemd does not run."""
    if not _BOOTED.is_dir():
        return {}
    command = ("systemctl", "show", _UNIT, f"--property={','.join(_PROPERTIES)}")
    try:
        result = subprocess.run(  # noqa: S603 - the command is constant
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


def check_service(unit: Mapping[str, str], n_tasks: int = 0) -> CheckResult:
    """Check whether the daemon is installed as a service, runs, and is started at boot.

    Args:
        unit: Properties of the service, as `unit_properties` returns them.
        n_tasks: Threads and processes that the configuration needs.

    Raises:
        EdgeasdError: If the service fails.
    """
    if not unit:
        return CheckResult("no systemd here; have your service manager start 'edgeasd run'")
    if unit["LoadState"] == "not-found":
        return CheckResult("not installed; docs/install.md says how to install it", doubtful=True)
    if unit["LoadState"] != "loaded":
        raise EdgeasdError(f"unit {unit['LoadState']}; for details run: systemctl status {_UNIT}")
    if unit["ActiveState"] == "failed" or unit["SubState"] == "auto-restart":
        raise EdgeasdError(
            f"fails ({unit['Result']}); for the reason run: journalctl -u {_UNIT} -n 20"
        )
    doubt = _doubt(unit, n_tasks)
    return CheckResult(doubt or "active, and started at boot", doubtful=doubt != "")


def _doubt(unit: Mapping[str, str], n_tasks: int) -> str:
    most_tasks = unit.get("TasksMax", "")
    if most_tasks.isdigit() and int(most_tasks) < n_tasks:
        return (
            f"TasksMax={most_tasks} must be at least {n_tasks} for this many machines; raise it "
            f"with: sudo systemctl edit {_UNIT}"
        )
    if unit["ActiveState"] != "active":
        return f"{unit['ActiveState']}; run: sudo systemctl start {_UNIT}"
    if unit["UnitFileState"] != "enabled":
        return f"active, but not started at boot; run: sudo systemctl enable {_UNIT}"
    if unit["NRestarts"] != "0":
        return (
            f"active, but was restarted {unit['NRestarts']} times; for the reason run: "
            f"journalctl -u {_UNIT}"
        )
    return ""
