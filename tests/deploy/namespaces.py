"""Service managers in namespaces of their own, beside whatever else runs on this computer.

Nothing can leak: the mounts belong to the mount namespace, every process ends with the first of the
PID namespace, and that one ends with the test.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.publish.brokers import DEADLINE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CGROUPS = Path("/sys/fs/cgroup")

_ENTER = """\
set -eu
name=$1; shift
for group in "$@"; do
  [ "$group" != -- ] || break
  shift
  mkdir "$group/$name"
  echo 0 > "$group/$name/cgroup.procs"
done
shift
exec "$@"
"""


class Namespaces:
    """A command in namespaces and control groups of its own.

    Args:
        command: What to start, as the first process of the PID namespace.
        log: Where its output goes.
        environment: All of its environment.
    """

    _n_started = 0

    def __init__(
        self, command: list[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        assert os.geteuid() == 0, "namespaces and control groups need root"
        Namespaces._n_started += 1
        # systemd-nspawn wants to find itself in a unit, and knows one by this ending.
        self._group = f"edgeasd-test-{os.getpid()}-{Namespaces._n_started}.service"
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        enter = ["sh", "-c", _ENTER, "sh", self._group, *map(str, _hierarchies()), "--"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *unshare, *enter, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def manager(self) -> int:
        """Return the number of the process ``systemd`` in here; 0 if it is not there yet."""
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                if Path(process.exe()).name == "systemd":
                    return int(process.pid)
        return 0

    def close(self) -> None:
        """End every process in here, and remove the control groups."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        for hierarchy in _hierarchies():
            top = hierarchy / self._group
            wait_until(lambda top=top: _removed(top), f"{top} is empty")  # type: ignore[misc]


def enter(manager: int, *command: str | Path) -> list[str]:
    """Return the command line that runs *command* in the namespaces of process *manager*."""
    return ["nsenter", "--target", str(manager), "--all", "--", *map(str, command)]


def eventually(condition: Callable[[], object], what: str, deadline_s: float = 60.0) -> None:
    """Wait until *condition* holds, which is slow to ask; fail after the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not in {deadline_s:g} s: {what}"
        time.sleep(0.1)


def _hierarchies() -> list[Path]:
    if (_CGROUPS / "cgroup.procs").exists():
        return [_CGROUPS]
    return [_CGROUPS / "systemd", _CGROUPS / "unified"]


def _removed(top: Path) -> bool:
    with suppress(OSError):
        for folder, _, _ in os.walk(top, topdown=False):
            Path(folder).rmdir()
    return not top.exists()
