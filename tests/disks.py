"""A real file system for tests that can be made to answer no longer; needs root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


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
    mount = ["mount", "-o", "loop", str(image), str(root)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield FrozenDisk(root)
    finally:
        # Whoever waits for a frozen disk cannot even be killed.
        subprocess.run(["fsfreeze", "--unfreeze", root], check=False, capture_output=True)
        subprocess.run(["umount", "-l", root], check=True)
