"""A clean Debian of its own: commands in it, and its service manager booted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.deploy.constraints import requirements_for
from tests.deploy.namespaces import Namespaces, enter, eventually
from tests.publish.brokers import DEADLINE_S

if TYPE_CHECKING:
    from types import TracebackType

CHECKOUT = Path(__file__).parents[2]
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}
"""Of Debian 12 and 13."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the container sees of this computer: the checkout, and wheels in place of the internet.
_INSIDE = {"checkout": "/mnt/checkout", "wheels": "/mnt/wheels"}
INSTALL = f"{_INSIDE['checkout']}/deploy/install.sh"
WHEELS = _INSIDE["wheels"]

# Firewall and device rules of a unit are BPF programs.
_CONTAINER = [
    "systemd-nspawn",
    "--quiet",
    "--register=no",
    "--keep-unit",
    "--link-journal=no",
    "--console=pipe",
    "--capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON",
    "--system-call-filter=bpf",
]
_ENVIRONMENT = {"PATH": _PATH, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
_START = """\
mount -t tmpfs tmpfs /run
exec "$@"
"""


def make_debian(folder: Path, release: str) -> None:
    """Make a Debian of *release* with systemd, and without Python, in *folder*."""
    assert shutil.which("debootstrap"), "install the Debian package debootstrap"
    command = ["debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv", release]
    with folder.with_suffix(".log").open("wb") as log:
        subprocess.run([*command, folder], check=True, stdout=log, stderr=log, timeout=900)


def download_wheels(folder: Path, release: str) -> None:
    """Put everything that ``install.sh`` installs into *folder*, for Python of *release*."""
    wanted = folder.with_suffix(".txt")
    wanted.write_text(requirements_for(PYTHON[release]))
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--only-binary=:all:",
        "--no-deps",
    ]
    with folder.with_suffix(".log").open("wb") as log:
        subprocess.run(
            [
                *command,
                f"--python-version={PYTHON[release]}",
                "--require-hashes",
                f"--requirement={wanted}",
                f"--dest={folder}",
            ],
            check=True,
            stderr=log,
            timeout=900,
        )


class Debian:
    """A Debian root; commands in it see the wheels and no package index.

    Args:
        root: The folder of its root.
        wheels: The folder of wheels.

    Attributes:
        root: As given.
        wheels: As given.
        first_words: What the installation said.
    """

    def __init__(self, root: Path, wheels: Path) -> None:
        assert shutil.which("systemd-nspawn"), "install the Debian package systemd-container"
        self.root = root
        self.wheels = wheels
        self._n_runs = 0
        self.first_words = ""

    def copy(self, root: Path) -> Debian:
        """Return a copy of this in folder *root*."""
        subprocess.run(["cp", "--archive", self.root, root], check=True, timeout=120)
        return Debian(root, self.wheels)

    def remove(self) -> None:
        """Remove its root: half a gigabyte that nobody looks at again."""
        shutil.rmtree(self.root)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run *command* in it, without any service manager; its output is in ``stdout``."""
        self._n_runs += 1
        log = self.root.with_suffix(f".{self._n_runs}.log")
        namespaces = self._start(log, "--as-pid2", *command)
        try:
            returncode = namespaces.process.wait(600)
        finally:
            namespaces.close()
        result = subprocess.CompletedProcess(command, returncode, log.read_text())
        assert not check or returncode == 0, result
        return result

    def boot(self) -> Booted:
        """Return its service manager, not yet started."""
        return Booted(self._start(self.root.with_suffix(".boot.log"), "--boot"))

    def _start(self, log: Path, *arguments: str) -> Namespaces:
        binds = [
            f"--bind-ro={CHECKOUT}:{_INSIDE['checkout']}",
            f"--bind-ro={self.wheels}:{_INSIDE['wheels']}",
            "--setenv=PIP_NO_INDEX=1",
            f"--setenv=PIP_FIND_LINKS={WHEELS}",
            f"--setenv=PATH={_PATH}",
        ]
        command = [*_CONTAINER, "--directory", str(self.root), *binds, *arguments]
        return Namespaces(["sh", "-euc", _START, "sh", *command], log, _ENVIRONMENT)


class Booted:
    """A booted Debian; to be used in a ``with`` statement."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces

    def run(
        self, *command: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run *command* in it, as root."""
        result = subprocess.run(
            enter(self._namespaces.manager(), *command),
            env={"PATH": _PATH, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or result.returncode == 0, result
        return result

    def show(self, name: str, unit: str = "edgeasd") -> str:
        """Return the property *name* of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def journal(self) -> str:
        """Return what the service, and the manager about it, said."""
        return self.run("journalctl", "--unit=edgeasd", "--output=cat", "--no-pager").stdout

    def __enter__(self) -> Booted:  # noqa: PYI034 - Self came with Python 3.11
        def runs() -> bool:
            # "degraded" would be fine; what counts is that the boot is over.
            return bool(self._namespaces.manager()) and self.run(
                "systemctl", "is-system-running", check=False
            ).stdout.strip() in ("running", "degraded")

        eventually(runs, "Debian has booted")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # "Power off", in the manager's own words.
        os.kill(self._namespaces.manager(), signal.SIGRTMIN + 4)
        try:
            self._namespaces.process.wait(DEADLINE_S)
        finally:
            self._namespaces.close()
