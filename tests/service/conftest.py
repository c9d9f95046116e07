"""A clean Debian, made once, and one with edgeasd in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.debian import INSTALL, Debian, download_wheels, make_debian


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


@pytest.fixture(scope="session")
def installed_debian(clean_debian: Debian) -> Iterator[Debian]:
    """One in which ``install.sh`` was run once, by a careful root; to be read or copied."""
    debian = clean_debian.copy(clean_debian.root.with_name("installed"))
    debian.first_words = debian.run("sh", "-c", f"umask 077; exec {INSTALL}").stdout
    yield debian
    debian.remove()
