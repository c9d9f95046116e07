"""Tests of files that are whole or not there; a power cut is as far as a kill or an error goes."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeasd.common.errors import StorageError
from edgeasd.common.files.whole_file import (
    draft_of,
    exclusively,
    replace_file,
    require_writable,
    whole_file,
)
from tests.conftest import CHECKOUT

NOBODY = 65_534
DIE_HALFWAY = """
import os, pathlib, signal, sys
from edgeasd.common.files.whole_file import whole_file
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


def drafts(path: Path) -> list[Path]:
    """Return what stands beside *path* until it is whole."""
    return list(path.parent.glob(f".{path.name}.*.part"))


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
    assert [draft.read_bytes() for draft in drafts(path)] == [b"half"]
    assert path.read_bytes() == b"old"

    with whole_file(path) as file:
        file.write(b"new")

    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_what_bears_the_name_of_a_draft_is_neither_followed_nor_written(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write to the folder cannot have root write elsewhere, not even by a lucky guess."""
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    other.write_bytes(b"not ours")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "01234567")
    planted = path.with_name(f".{path.name}.01234567.part")
    planted.symlink_to(other)

    with pytest.raises(FileExistsError), whole_file(path):
        pass

    assert planted.is_symlink()
    assert other.read_bytes() == b"not ours"
    assert path.read_bytes() == b"old"


def test_each_of_two_writers_at_once_writes_a_whole_file(path: Path) -> None:
    """The one who ends last has the last word; at no time is there a mixture of both."""
    with whole_file(path) as slow:
        slow.write(b"slow")
        with whole_file(path) as quick:
            quick.write(b"quick, and longer")
        assert path.read_bytes() == b"quick, and longer"
        slow.write(b"er")

    assert path.read_bytes() == b"slower"
    assert list(path.parent.iterdir()) == [path]


def test_asking_whether_a_file_can_be_written_disturbs_nobody_who_writes_it(path: Path) -> None:
    """A command that only begins leaves the draft of another one alone."""
    with whole_file(path) as file:
        file.write(b"six hours of work")
        require_writable(path)

    assert path.read_bytes() == b"six hours of work"
    assert list(path.parent.iterdir()) == [path]


def test_drafts_of_others_are_left(path: Path) -> None:
    """Of another file, of another user, or what merely looks like one: a folder, a link."""
    others = [draft_of(path.with_name("other.txt")), draft_of(path), draft_of(path), draft_of(path)]
    others[0].touch()
    others[1].mkdir()
    others[2].symlink_to(path)
    others[3].touch()
    if os.geteuid() == 0:
        os.chown(others[3], NOBODY, NOBODY)
    else:
        others.pop().unlink()

    with whole_file(path) as file:
        file.write(b"new")

    assert sorted(path.parent.iterdir()) == sorted([path, *others])


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "device", "socket"])
def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    """``/dev/stdout`` must be there after root names it as a picture; a pipe is not waited for."""
    path = tmp_path / "notes.txt"
    plant(path, kind)
    before = path.lstat()

    with pytest.raises(StorageError, match=r"is not a plain file\); remove it, or"):
        replace_file(path, b"new")
    with pytest.raises(StorageError, match=r"is not a plain file\); remove it, or"):
        require_writable(path)

    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


def plant(path: Path, kind: str) -> None:
    """Have something of that *kind* at *path*."""
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(path))
    else:
        if os.geteuid() != 0:
            pytest.skip("a device is made by root alone")
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


def test_change_by_one_command_waits_for_that_of_another(path: Path) -> None:
    """Who reads, changes and writes sees what the one before wrote; the lock does not stay."""

    def count() -> None:
        for _ in range(20):
            with exclusively(path):
                number = int(path.read_text())
                time.sleep(0.001)
                replace_file(path, b"%d" % (number + 1))

    path.write_text("0")
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(count) for _ in range(4)]:
            each.result()

    assert path.read_text() == "80"
    assert list(path.parent.iterdir()) == [path]


def test_lock_that_another_holds_for_long_is_told(path: Path) -> None:
    """A command that hangs does not make all others hang."""
    with exclusively(path), pytest.raises(StorageError, match="is being changed by another"):
        exclusively(path, patience_s=0.1).__enter__()

    with exclusively(path):
        pass


def test_lock_that_a_kill_left_is_taken(path: Path) -> None:
    """It is locked by a process, not by being there."""
    path.with_name(f".{path.name}.lock").touch()

    with exclusively(path):
        pass

    assert list(path.parent.iterdir()) == [path]


def test_lock_is_nobody_elses_to_hold(path: Path) -> None:
    """What others could open they could lock, and keep every command back."""
    with exclusively(path):
        assert path.with_name(f".{path.name}.lock").stat().st_mode & 0o777 == 0o600


def test_file_of_a_mode_has_it_from_the_first_byte(path: Path) -> None:
    """What others may not read they cannot read while it is written either."""
    with whole_file(path, mode=0o600) as file:
        assert [draft.stat().st_mode & 0o777 for draft in drafts(path)] == [0o600]
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

    (draft, before), folder = synced
    assert (draft.parent, draft.suffix, before) == (path.parent, ".part", b"old")
    assert folder == (path.parent, b"new")


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
