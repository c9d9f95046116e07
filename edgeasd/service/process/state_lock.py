"""One daemon at a time uses a state directory."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from pathlib import Path

from edgeasd.common.errors import InUseError, StorageError

LOCK_NAME = "lock"
"""Name of the file that is locked while a daemon runs; it holds the daemon's process id."""
_MOST_BYTES = 20
"""Longest process id that is read from the file, which anything may have been written to."""
_log = logging.getLogger(__name__)


class StateLock:
    """Holds a state directory until it is closed, or until the process ends for whatever reason.

    Args:
        directory: State directory; made if it is not there.

    Raises:
        InUseError: If another process holds it.
        StorageError: If this user must not write to it.
    """

    def __init__(self, directory: Path) -> None:
        _require_own(directory)
        self._descriptor = _open(directory)
        try:
            _lock(self._descriptor, directory)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _require_own(directory: Path) -> None:
    """Refuse root the directory of another user, who may have left links there.

    The service, which has a user of its own, could not open what root makes in it either.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = directory.stat().st_uid
    except OSError:  # the directory is made, or refused, below
        return
    if owner != 0:
        raise StorageError(
            f"state_dir={directory} belongs to user {owner} and is not for root; start the "
            "service, run edgeasd as that user, or choose another state_dir"
        )


def _open(directory: Path) -> int | None:
    path = directory / LOCK_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # A link is not followed: its target would be emptied.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        if os.path.lexists(path):
            raise _no_file(path) from exc
        # A full disk keeps no daemon from starting.  If the directory cannot be written at all, the
        # outbox, which needs it more, says so.
        _warn(directory, exc)
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_file(path)
    return descriptor


def _no_file(path: Path) -> StorageError:
    return StorageError(f"{path} must be a file that can be written; change its owner or remove it")


def _lock(descriptor: int | None, directory: Path) -> None:
    if descriptor is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.pread(descriptor, _MOST_BYTES, 0).strip()
        process = f"process {int(holder)}" if holder.isdigit() else "another process"
        raise InUseError(
            f"state_dir={directory} is in use by {process}; stop the service first, or choose "
            "another state_dir"
        ) from exc
    except OSError as exc:  # a network file system, for example
        _warn(directory, exc)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except OSError as exc:  # the disk is full: the lock holds all the same
        _log.debug("%s: %s", directory / LOCK_NAME, exc.strerror)


def _warn(directory: Path, exc: OSError) -> None:
    _log.warning(
        "state_dir=%s cannot be locked (%s); make sure that no second daemon uses it",
        directory,
        exc.strerror,
    )
