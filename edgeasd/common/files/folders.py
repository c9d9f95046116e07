"""Folders and files as root may open them: what other users left in the way is not followed.

The commands run as root, and write to folders that other users may write to as well.  A symbolic
link, a hard link, or a pipe that waits there would have root write elsewhere, or wait for ever.
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
"""As many as the kernel itself follows in one path."""

_RETRY_S = 0.05


class InTheWayError(OSError):
    """What is at a path must not be written through."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ELOOP, reason)


@contextmanager
def opened_folder(path: Path, *, make: bool = False) -> Iterator[int]:
    """Give a descriptor of the folder at *path*, for the ``dir_fd`` of what is done in it.

    Step by step: whoever moves a part of *path* away meanwhile cannot lead elsewhere.  Root follows
    no symbolic link but root's own; other users have nothing that they could be tricked out of.

    Args:
        path: Path of a folder.
        make: Whether to make it, and those that it is in, where they are not there.

    Raises:
        OSError: If it is no folder that may be used.
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
    """Return a descriptor of the entry *name* of *folder* itself, also of a symbolic link."""
    flags = os.O_PATH | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # another was quicker
        os.mkdir(name, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


def _target(link: int, name: str, n_links: int) -> str:
    """Return where the open symbolic *link* leads."""
    if n_links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if os.geteuid() == 0 and os.fstat(link).st_uid != 0:
        raise InTheWayError(f"{name} is a symbolic link that is not root's")
    return os.readlink("", dir_fd=link)


def open_plain(name: str, flags: int, mode: int = 0o666, *, folder: int) -> int:
    """Open the file *name* of *folder*: never what a link leads to, a device, or a pipe.

    Args:
        name: Name of the file in its folder.
        flags: Flags as `os.open` takes them.
        mode: Permissions of a file that is made.
        folder: Descriptor of its folder.

    Raises:
        OSError: If it cannot be opened, or is something else than a file with one name.
    """
    try:
        # Opening a pipe would wait for its other end.
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
    """Open the file *name* of *folder*, made if need be, for this user and this process alone.

    Others cannot open it, so that they cannot hold its lock either.  Whoever has it may remove it.

    Args:
        name: Name of the file in its folder.
        folder: Descriptor of its folder.
        patience_s: Seconds to wait for another process to let go of it.

    Raises:
        BlockingIOError: If another process still has it.
        OSError: If it cannot be opened.
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
    """Lock *file*, and return whether that worked and it still is *name* of *folder*."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who had it may have removed it: the name is another file's by now, or nobody's.
        return os.path.samestat(os.fstat(file), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except (BlockingIOError, FileNotFoundError):
        return False


def require_plain(name: str, folder: int) -> None:
    """Check that *name* is a file of *folder*, or nothing yet.

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
    return InTheWayError(f"{name} is no plain file")
