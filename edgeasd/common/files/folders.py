"""Opens folders and files so that other users cannot mislead root.

The commands run as root, and write to folders that other users may write to as well.  A symbolic
link, a hard link or a pipe that another user put there would make root write elsewhere, or wait for
ever.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MOST_LINKS = 40
"""Symbolic links to follow in one path, as many as the kernel."""

_RETRY_S = 0.05


class InTheWayError(OSError):
    """Something at a path must not be written through, for example a symbolic link."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ELOOP, reason)


@contextmanager
def opened_folder(path: Path, *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the folder at *path*, to be passed as ``dir_fd``.

    The path is opened part by part, so that nobody can redirect it by moving a part away meanwhile.
    Root follows only symbolic links that belong to root; other users follow all.

    Args:
        path: Path of a folder.
        make: Whether to create the folder and its parents if they do not exist.

    Raises:
        OSError: If it is not a folder that may be used.
    """
    folder = _walk(path, make=make)
    try:
        yield folder
    finally:
        os.close(folder)


def _walk(path: Path, *, make: bool) -> int:
    left = [*reversed(path.absolute().parts)]
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY)
    n_links = 0
    try:
        while left:
            name = left.pop()
            entry = _entry(name, folder, make=make)
            if not stat.S_ISLNK(os.fstat(entry).st_mode):
                os.close(folder)
                folder = entry
                continue
            try:
                n_links += 1
                left.extend(reversed(Path(_target(entry, name, n_links)).parts))
            finally:
                os.close(entry)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    finally:
        os.close(folder)


def _entry(name: str, folder: int, *, make: bool) -> int:
    """Return a descriptor of the entry *name* of *folder*; a symbolic link is not followed."""
    flags = os.O_PATH | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # another process made it meanwhile
        os.mkdir(name, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


def _target(link: int, name: str, n_links: int) -> str:
    """Return the target of the open symbolic *link*."""
    if n_links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if os.geteuid() == 0 and os.fstat(link).st_uid != 0:
        raise InTheWayError(f"{name} is a symbolic link that does not belong to root")
    return os.readlink("", dir_fd=link)


def open_plain(name: str, flags: int, mode: int = 0o666, *, folder: int) -> int:
    """Open the regular file *name* of *folder*, but no link, device or pipe.

    Args:
        name: Name of the file in its folder.
        flags: Flags of `os.open`.
        mode: Permissions of a new file.
        folder: Descriptor of its folder.

    Raises:
        OSError: If it cannot be opened, or is not a regular file with a single name.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its other end.
        file = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _not_plain(name) from exc
        raise
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(file)
        raise _not_plain(name)
    return file


def open_locked(name: str, *, folder: int, patience_s: float = 0.0) -> int:
    """Open and lock the file *name* of *folder*, creating it if necessary.

    Only this user can open the file, so that no other user can hold its lock.  The process that
    holds the lock may remove the file.

    Args:
        name: Name of the file in its folder.
        folder: Descriptor of its folder.
        patience_s: Seconds to wait for another process to release the lock.

    Raises:
        BlockingIOError: If another process still holds the lock.
        OSError: If the file cannot be opened.
    """
    end_s = time.monotonic() + patience_s
    while True:
        file = open_plain(name, os.O_RDWR | os.O_CREAT, 0o600, folder=folder)
        try:
            if _is_taken(file, name, folder):
                return file
        except OSError:
            os.close(file)
            raise
        os.close(file)
        if time.monotonic() >= end_s:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        time.sleep(_RETRY_S)


def _is_taken(file: int, name: str, folder: int) -> bool:
    """Lock *file*; return whether that worked and the file still is *name* of *folder*."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have removed it: the name may be gone or belong to another file.
        return os.path.samestat(os.fstat(file), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except (BlockingIOError, FileNotFoundError):
        return False


def require_plain(name: str, folder: int) -> None:
    """Check that *name* is a regular file of *folder*, or does not exist.

    Raises:
        OSError: If it is a link, a device, a pipe or a folder.
    """
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise _not_plain(name)


def _not_plain(name: str) -> InTheWayError:
    return InTheWayError(f"{name} is not a plain file")
