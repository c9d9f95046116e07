"""The daemon under a real ``systemd --user``, by the unit that is shipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.deploy.namespaces import Namespaces, enter, eventually

if TYPE_CHECKING:
    from types import TracebackType

CHECKOUT = Path(__file__).parents[2]
SHIPPED = CHECKOUT / "systemd" / "edgeasd.service"

_RUNTIME = "/run/user/0"
_START = f"""\
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/systemd/inaccessible/dir
mknod /run/systemd/inaccessible/chr c 0 0
touch /run/systemd/inaccessible/reg
mkdir -p -m 700 {_RUNTIME}
mount --bind "$1" /dev/console
/lib/systemd/systemd --user --unit=basic.target &
wait
"""

# A user manager has no made-up users, and its services see the files of the test, which lie in the
# home of whoever runs it and in /tmp.
_LEFT_OUT = {
    "DynamicUser",
    "SupplementaryGroups",
    "StateDirectory",
    "StateDirectoryMode",
    "LoadCredential",
    "SetCredential",
    "PrivateUsers",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "NoExecPaths",
}


def unit_for_test(config: Path, log: Path) -> str:
    """Return the shipped unit, as a user manager can run it and with less patience."""
    instead = {
        "ExecStart": f"{sys.executable} -m edgeasd run --config {config}",
        "WatchdogSec": "4",
        "RestartSec": "200ms",
        "WantedBy": "basic.target",
    }
    lines = []
    for line in SHIPPED.read_text().splitlines():
        key = line.partition("=")[0]
        if key not in _LEFT_OUT:
            lines.append(f"{key}={instead[key]}" if key in instead else line)
        if line == "[Service]":
            lines.append(f"WorkingDirectory={CHECKOUT}\nStandardError=append:{log}")
    return "\n".join(lines) + "\n"


class UserManager:
    """A ``systemd --user`` of its own; to be used in a ``with`` statement.

    Args:
        folder: For units and logs.

    Attributes:
        log: What the service says on standard error.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / "service.log"
        self._units = folder / "systemd" / "user"
        self._units.mkdir(parents=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_RUNTIME_DIR": _RUNTIME,
            "SYSTEMD_LOG_TARGET": "console",  # which is a file in there
        }
        self._log = folder / "manager.log"
        self._namespaces = Namespaces(
            ["sh", "-euc", _START, "sh", self._log], self._log, self._environment
        )

    def add(self, config: Path) -> None:
        """Add the unit that runs the daemon by *config*."""
        unit = self._units / SHIPPED.name
        unit.write_text(unit_for_test(config, self.log))
        self.systemctl("daemon-reload")

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``systemctl --user``."""
        return subprocess.run(
            enter(self._namespaces.manager(), "systemctl", "--user", *arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
        )

    def show(self, name: str) -> str:
        """Return the property *name* of the service."""
        return self.systemctl("show", "--value", f"--property={name}", SHIPPED.name).stdout.strip()

    def said(self) -> str:
        """Return what the manager and the service said so far."""
        return "".join(log.read_text() for log in (self._log, self.log) if log.exists())

    def __enter__(self) -> UserManager:  # noqa: PYI034 - Self came with Python 3.11
        def runs() -> bool:
            return bool(self._namespaces.manager()) and (
                self.systemctl("is-active", "basic.target", check=False).returncode == 0
            )

        eventually(runs, "the manager runs")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._namespaces.close()
