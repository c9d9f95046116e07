"""A clean Debian, made once, and one with edgeasd in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.debian import INSTALL, Debian, download_wheels, make_debian


@pytest.fixture(scope="session")
def clean_debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A Debian 12 that nobody has touched; to be copied."""
    debian = _make(tmp_path_factory.mktemp("debian"), "bookworm")
    yield debian
    debian.remove()


@pytest.fixture
def next_debian(tmp_path: Path) -> Iterator[Debian]:
    """A Debian 13 that nobody has touched."""
    debian = _make(tmp_path, "trixie")
    yield debian
    debian.remove()


def _make(folder: Path, release: str) -> Debian:
    if os.geteuid() != 0:
        pytest.skip("making a Debian root needs root")
    make_debian(folder / "clean", release)
    download_wheels(folder / "wheels", release)
    return Debian(folder / "clean", folder / "wheels")


def plant(folder: Path) -> None:
    """Make a folder of what would say, were it run or obeyed, that it was: in a file ``done``."""
    note = f"/srv/{folder.name}/done"
    python = f"open({note!r}, 'a').write(__name__)\n"
    shell = f"#!/bin/sh\necho $0 >> {note}\nexit 1\n"
    (folder / "pip").mkdir(parents=True)
    for name in ("ensurepip", "venv", "sitecustomize", "usercustomize", "edgeasd", "sounddevice"):
        (folder / f"{name}.py").write_text(python)
    (folder / "pip" / "__init__.py").write_text(python)
    (folder / "pip" / "__main__.py").write_text(python)
    (folder / "pip" / "pip.conf").write_text(f"[global]\nlog = {note}\n")
    (folder / "strict.pm").write_text(f"open(my $note, '>>', '{note}'); 1;\n")
    for name in ("sh", "bash", "python3", "ldconfig", "systemctl", "find", "dirname", "install"):
        (folder / name).write_text(shell)
        (folder / name).chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 1234, 1234)


@pytest.fixture(scope="session")
def installed_debian(clean_debian: Debian) -> Iterator[Debian]:
    """One in which ``install.sh`` was run once, by a careful root; to be read or copied.

    Root came by su, from the folder of a user who waited for that.
    """
    debian = clean_debian.copy(clean_debian.root.with_name("installed"))
    plant(debian.root / "srv/planted")
    debian.first_words = debian.run(
        *("env", "BASH_FUNC_install%%=() { touch /srv/planted/done; }", "HOME=/srv/planted"),
        *("PYTHONPATH=/srv/planted", "XDG_CONFIG_HOME=/srv/planted", "BASH_ENV=/srv/planted/sh"),
        *("PERL5LIB=/srv/planted", "CDPATH=/srv/planted"),
        *("sh", "-c", f"umask 077; cd /srv/planted; PATH=/srv/planted:$PATH exec {INSTALL}"),
    ).stdout
    yield debian
    debian.remove()
