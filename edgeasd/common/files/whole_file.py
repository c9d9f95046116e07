"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from edgeasd.common.errors import StorageError
from edgeasd.common.files.folders import (
    InTheWayError,
    open_locked,
    open_plain,
    opened_folder,
    require_plain,
)

# Versions before this one had no random part.
_DRAFT = re.compile(r"\.(.+?)(?:\.[0-9a-f]{8})?\.part", re.DOTALL)
_LOCK_PATIENCE_S = 10.0
"""More than it takes anybody to read a file and write it again."""


def draft_of(path: Path) -> Path:
    """Return a name under which what will be *path* stands until it is whole; each call another.

    It is a hidden one: after a power cut nobody takes it for what it was to be.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Give a file to write to, which becomes *path* at the end of the ``with`` block.

    A reader finds what was there before or the whole of the new, also after a power cut, and while
    several write at once.  Whatever is raised, in the block or here, leaves what was there and no
    draft; only a kill or a power cut leaves one, which the next writer of *path* removes.

    Args:
        path: A plain file, or nothing yet, in a folder that is there.
        mode: Permissions, less those that the umask takes away.

    Raises:
        OSError: If it cannot be written.
    """
    with opened_folder(path.parent) as folder:
        require_plain(path.name, folder)
        sweep_drafts(folder, path.name.__eq__)
        with _draft(path, mode, folder) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        _sync(folder)


@contextlib.contextmanager
def _draft(path: Path, mode: int, folder: int) -> Iterator[BinaryIO]:
    """Give a new file, locked for as long as it is written; it goes if it gets no other name."""

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, mode, dir_fd=folder)

    while True:
        file = open(draft_of(path).name, "x+b", opener=create)  # noqa: SIM115 - closed below
        with contextlib.suppress(OSError):  # some file systems of a network know no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # before it was locked, another writer took it for one that was left
    try:
        with file:
            yield file
    finally:
        # It has another name by now, or is not wanted; a disk that takes nothing was told already.
        with contextlib.suppress(OSError):
            os.unlink(file.name, dir_fd=folder)


def sweep_drafts(folder: int, is_meant: Callable[[str], bool]) -> None:
    """Remove this user's drafts that nobody writes any more: a kill or a power cut left them.

    Args:
        folder: Descriptor of a folder.
        is_meant: Tells of the name that a draft was to get whether it is one to be removed.

    Raises:
        OSError: If the folder cannot be read.
    """
    for name in os.listdir(folder):
        match = _DRAFT.fullmatch(name)
        if match and is_meant(match[1]):
            with contextlib.suppress(OSError):  # it is not ours, is written, or was just renamed
                _remove_if_left(name, folder)


def _remove_if_left(name: str, folder: int) -> None:
    draft = open_plain(name, os.O_RDONLY, folder=folder)
    try:
        fcntl.flock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(draft).st_uid == os.geteuid():
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(draft)


def _sync(folder: int) -> None:
    """Have the names in *folder* outlive the power."""
    try:
        os.fsync(folder)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # so says a network's file system that knows no such thing
            raise


def replace_file(path: Path, content: bytes) -> None:
    """Have *content* at *path*, or what was there before, whatever happens in between.

    Raises:
        StorageError: If it cannot be written.
    """
    with _told(path), whole_file(path) as file:
        # The commands run as root, perhaps with a strict umask; the service must read it.
        os.fchmod(file.fileno(), 0o644)
        file.write(content)


def require_writable(path: Path) -> None:
    """Check that `replace_file` may write *path*: who listened for hours shall not learn it then.

    Raises:
        StorageError: If it may not.
    """
    with _told(path), opened_folder(path.parent) as folder:
        require_plain(path.name, folder)
        with _draft(path, 0o600, folder):
            pass


@contextlib.contextmanager
def exclusively(path: Path, patience_s: float = _LOCK_PATIENCE_S) -> Iterator[None]:
    """Keep all others who ask for it from changing *path* for as long as the block lasts.

    The lock is a file beside it that is there only meanwhile, and that no other user can hold.

    Args:
        path: File that is changed, in a folder that is there.
        patience_s: Most seconds to wait for another who has it.

    Raises:
        StorageError: If the lock cannot be had.
    """
    name = f".{path.name}.lock"
    with contextlib.ExitStack() as held:
        with _told(path):
            folder = held.enter_context(opened_folder(path.parent))
            try:
                lock = open_locked(name, folder=folder, patience_s=patience_s)
            except BlockingIOError as exc:
                raise StorageError(
                    f"{path}: is being changed by another command; wait for its end"
                ) from exc
        held.callback(os.close, lock)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # somebody tidied up
                os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except InTheWayError as exc:
        raise StorageError(
            f"{path}: cannot be written ({exc.strerror}); remove it, or choose another place"
        ) from exc
    except OSError as exc:
        raise StorageError(
            f"{path}: cannot be written ({exc.strerror}); run the command as a user who may write "
            f"to {path.parent}, on a disk that is not full"
        ) from exc
