"""Tests of files that are whole or not there; a power cut is as far as a kill or an error goes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeasd.whole_file import draft_of, whole_file
from tests.conftest import CHECKOUT

DIE_HALFWAY = """
import os, pathlib, signal, sys
from edgeasd.whole_file import whole_file
with whole_file(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with something in it, alone in its folder."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"old")
    return path


def test_file_is_the_old_one_until_the_new_one_is_whole(path: Path) -> None:
    """A reader never sees a part, and nothing else stays in the folder."""
    with whole_file(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"w")

    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), OSError("no"), KeyboardInterrupt()])
def test_file_whose_writer_fails_stays_as_it_was(path: Path, error: BaseException) -> None:
    """Whatever is raised comes out, the old content stays, and no draft does."""

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()

    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_draft_that_a_kill_left_is_replaced(path: Path) -> None:
    """Half a file has no name that anyone would read, and does not keep back the next writer."""
    killed = subprocess.run(
        [sys.executable, "-c", DIE_HALFWAY, str(path)], cwd=CHECKOUT, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert draft_of(path).read_bytes() == b"half"
    assert path.read_bytes() == b"old"

    with whole_file(path) as file:
        file.write(b"new")

    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_link_in_place_of_the_draft_is_not_followed(path: Path, tmp_path: Path) -> None:
    """Who may write to the folder cannot have root write elsewhere."""
    other = tmp_path / "other"
    other.write_bytes(b"not ours")
    draft_of(path).symlink_to(other)

    with whole_file(path) as file:
        file.write(b"new")

    assert path.read_bytes() == b"new"
    assert other.read_bytes() == b"not ours"


def test_file_of_a_mode_has_it_from_the_first_byte(path: Path) -> None:
    """What others may not read they cannot read while it is written either."""
    with whole_file(path, mode=0o600) as file:
        assert draft_of(path).stat().st_mode & 0o777 == 0o600
        file.write(b"new")

    assert path.stat().st_mode & 0o777 == 0o600


def test_file_and_then_its_folder_are_brought_to_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is on the disk before it has the name, and the name before the block ends."""
    synced = []

    def note(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.read_bytes()))

    monkeypatch.setattr(os, "fsync", note)
    with whole_file(path) as file:
        file.write(b"new")

    assert synced == [(draft_of(path), b"old"), (path.parent, b"new")]


def test_folder_that_cannot_be_synced_is_no_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems of a network know no such thing; a disk that fails is told."""
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    code = errno.EINVAL
    with whole_file(path) as file:
        file.write(b"new")
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output error"), whole_file(path) as file:
        file.write(b"newer")

    assert path.read_bytes() == b"newer"
