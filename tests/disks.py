"""Real file systems for tests, that can be full, read-only or without an answer; they need root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A small file system that can be filled and made read-only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    def fill(self) -> None:
        """Leave not a byte free."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Take back what `fill` wrote."""
        self._filler.unlink()

    def remount(self, mode: str) -> None:
        """Make it ``ro`` or ``rw``."""
        subprocess.run(["mount", "-o", f"remount,{mode}", self.root], check=True)


@contextlib.contextmanager
def mounted_tmpfs(root: Path, size: str) -> Iterator[SmallDisk]:
    """Mount a file system in memory; *size* as mount(8) knows it, for example ``256k``."""
    root.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root))
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "-l", root], check=True)


class FrozenDisk:
    """A file system on which every write waits, without end and against all signals."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def freeze(self) -> None:
        """Have writes wait."""
        subprocess.run(["fsfreeze", "--freeze", self.root], check=True)

    def thaw(self) -> None:
        """Let them go on."""
        subprocess.run(["fsfreeze", "--unfreeze", self.root], check=True)


@contextlib.contextmanager
def mounted_ext4(root: Path) -> Iterator[FrozenDisk]:
    """Mount a file system of 16 MB; thawed in the end, if need be."""
    image = root.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    root.mkdir()
    _mount("-o", "loop", str(image), str(root))
    try:
        yield FrozenDisk(root)
    finally:
        # Whoever waits for a frozen disk cannot even be killed.
        subprocess.run(["fsfreeze", "--unfreeze", root], check=False, capture_output=True)
        subprocess.run(["umount", "-l", root], check=True)


def _mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
