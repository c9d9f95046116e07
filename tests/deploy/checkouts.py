"""Checkouts of edgeasd that are not quite this one, to upgrade to."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeasd import __version__
from tests.deploy.debian import CHECKOUT

_NEEDED = ("deploy", "edgeasd", "systemd", "pyproject.toml", "README.md", "LICENSE", ".gitignore")


def make_checkout(folder: Path) -> None:
    """Copy what an installation needs of this checkout to *folder*."""
    folder.mkdir()
    for name in _NEEDED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)


def edit(file: Path, old: str, new: str) -> None:
    """Replace *old*, which must be there, in *file*."""
    text = file.read_text()
    assert old in text, f"{file}: {old}"
    file.write_text(text.replace(old, new))


def make_newer(folder: Path) -> None:
    """Make a checkout of version 9.9.9."""
    make_checkout(folder)
    for name in ("pyproject.toml", "edgeasd/__init__.py"):
        edit(folder / name, f'"{__version__}"', '"9.9.9"')


def make_uninstallable(folder: Path) -> None:
    """Make a newer checkout that needs a package that does not exist."""
    make_newer(folder)
    edit(folder / "pyproject.toml", '"click>=8.2"', '"click>=8888"')


def make_broken(folder: Path) -> None:
    """Make a newer checkout whose daemon can be imported and does not run."""
    make_newer(folder)
    edit(
        folder / "edgeasd" / "service" / "daemon.py",
        "def run(self) -> None:",
        "def run(self, x) -> None:",
    )
