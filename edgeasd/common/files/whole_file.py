"""Writes files so that they are complete or absent, whatever happens meanwhile."""

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

# Earlier versions wrote no random part.
_DRAFT = re.compile(r"\.(.+?)(?:\.[0-9a-f]{8})?\.part", re.DOTALL)
_LOCK_PATIENCE_S = 10.0
"""Longer than any command takes to read a file and write it again."""


def draft_of(path: Path) -> Path:
    """Return a new name for the file that becomes *path* once it is complete.

    The name is hidden, so that a draft left by a power cut is not mistaken for a complete file.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a file to write to, which becomes *path* at the end of the ``with`` block.

    A reader finds either the old content or all of the new, also after a power cut and with several
    writers at once.  An exception, in the block or here, leaves the old content and no draft.  Only
    a kill or a power cut leaves a draft, which the next writer of *path* removes.

    Args:
        path: A plain file or a new name, in an existing folder.
        mode: Permissions, restricted by the umask.

    Raises:
        OSError: If the file cannot be written.
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
    """Yield a new locked file, which is removed at the end unless it was renamed."""

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, mode, dir_fd=folder)

    while True:
        file = open(draft_of(path).name, "x+b", opener=create)  # noqa: SIM115 - closed below
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # another writer took it for a leftover before it was locked
    try:
        with file:
            yield file
    finally:
        # It was renamed, or is not wanted; an error of the disk was reported before.
        with contextlib.suppress(OSError):
            os.unlink(file.name, dir_fd=folder)


def sweep_drafts(folder: int, is_meant: Callable[[str], bool]) -> None:
    """Remove drafts of this user that a kill or a power cut left.

    Args:
        folder: Descriptor of a folder.
        is_meant: Takes the final name of a draft, and returns whether to remove the draft.

    Raises:
        OSError: If the folder cannot be read.
    """
    for name in os.listdir(folder):
        match = _DRAFT.fullmatch(name)
        if match and is_meant(match[1]):
            with contextlib.suppress(OSError):  # of another user, still written, or just renamed
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
    """Write the names in *folder* to the disk, to survive a power cut."""
    try:
        os.fsync(folder)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # network file systems may not support it
            raise


def replace_file(path: Path, content: bytes) -> None:
    """Write *content* to *path*; whatever happens, either that or the old content is there.

    Raises:
        StorageError: If the file cannot be written.
    """
    with _told(path), whole_file(path) as file:
        # The service must read what a command writes as root, perhaps with a strict umask.
        os.fchmod(file.fileno(), 0o644)
        file.write(content)


def require_writable(path: Path) -> None:
    """Check that `replace_file` can write *path*, before a command works for hours.

    Raises:
        StorageError: If it cannot.
    """
    with _told(path), opened_folder(path.parent) as folder:
        require_plain(path.name, folder)
        with _draft(path, 0o600, folder):
            pass


@contextlib.contextmanager
def exclusively(path: Path, patience_s: float = _LOCK_PATIENCE_S) -> Iterator[None]:
    """Hold a lock on changes of *path* during the ``with`` block.

    The lock is a file beside *path* that exists only meanwhile, and that no other user can hold.

    Args:
        path: File to change, in an existing folder.
        patience_s: Longest time to wait for another process to release the lock, seconds.

    Raises:
        StorageError: If another process holds the lock, or it cannot be created.
    """
    name = f".{path.name}.lock"
    with contextlib.ExitStack() as held:
        with _told(path):
            folder = held.enter_context(opened_folder(path.parent))
            try:
                lock = open_locked(name, folder=folder, patience_s=patience_s)
            except BlockingIOError as exc:
                raise StorageError(
                    f"{path}: is being changed by another command; wait until it ends"
                ) from exc
        held.callback(os.close, lock)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # somebody removed it
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
