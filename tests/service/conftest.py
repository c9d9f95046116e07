"""A clean Debian, made once, and one with edgeasd in it."""

from __future__ import annotations

import os

import pytest

from tests.service.debian import INSTALL, Debian, download_wheels, make_debian


@pytest.fixture(scope="session")
def clean_debian(tmp_path_factory: pytest.TempPathFactory) -> Debian:
    """A Debian 12 that nobody has touched; to be copied."""
    if os.geteuid() != 0:
        pytest.skip("making a Debian root needs root")
    folder = tmp_path_factory.mktemp("debian")
    make_debian(folder / "clean")
    download_wheels(folder / "wheels")
    return Debian(folder / "clean", folder / "wheels")


@pytest.fixture(scope="session")
def installed_debian(clean_debian: Debian) -> Debian:
    """One in which ``install.sh`` was run once; to be read or copied."""
    debian = clean_debian.copy(clean_debian.root.with_name("installed"))
    said = debian.run("sh", "-c", f"umask 077; exec {INSTALL}").stdout
    debian.root.with_name("first.txt").write_text(said)
    return debian
