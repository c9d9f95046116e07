"""What a service may do, told as one line of JSON; runs in the place of the daemon."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWUSER = 0x10000000


def _execute_written() -> None:
    copy = Path(os.environ["STATE_DIRECTORY"]) / "true"
    shutil.copy("/usr/bin/true", copy)
    copy.chmod(0o700)
    try:
        subprocess.run([copy], check=True)
    finally:
        copy.unlink()


def _new_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")


def _datagram(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (address, 9))


def _set_user_id() -> None:
    file = Path(os.environ["STATE_DIRECTORY"]) / "set-user-id"
    file.touch()
    try:
        file.chmod(0o4700)
    finally:
        file.unlink()


_DEEDS: dict[str, Callable[[], object]] = {
    "write configuration": Path("/etc/edgeasd/new").touch,
    "write program": Path("/opt/edgeasd/new").touch,
    "write state": (Path(os.environ["STATE_DIRECTORY"]) / "new").touch,
    "execute written": _execute_written,
    "read a home": lambda: list(Path("/root").iterdir()),
    "read the password's file": Path("/etc/edgeasd/mqtt_password").read_bytes,
    "read a disk": lambda: os.open("/dev/probed-disk", os.O_RDONLY),
    "memory to write and run": lambda: mmap.mmap(-1, 4096, prot=7),
    "namespace": _new_namespace,
    "packet socket": lambda: socket.socket(socket.AF_PACKET),
    "datagram to this computer": lambda: _datagram("127.0.0.1"),
    "datagram to the plant": lambda: _datagram("192.168.99.99"),
    "datagram to the world": lambda: _datagram("192.0.2.1"),
    "set user id": _set_user_id,
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "nicer": lambda: os.nice(-1),
    "mount": lambda: subprocess.run(["mount", "-t", "tmpfs", "x", "/mnt"], check=True),
    "see process 1": Path("/proc/1").stat,
}


def _outcome(deed: Callable[[], object]) -> str:
    try:
        deed()
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]
    except subprocess.CalledProcessError:
        return "failed"
    return "done"


def main() -> None:
    """Try every deed and tell the outcome, with what identifies this process."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])
    report = {
        "outcomes": {name: _outcome(deed) for name, deed in _DEEDS.items()},
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "capabilities": int(status["CapBnd"], 16) | int(status["CapEff"], 16),
        "no_new_privileges": int(status["NoNewPrivs"]),
        "seccomp": int(status["Seccomp"]),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "password": (credentials / "mqtt_password").read_text(),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
