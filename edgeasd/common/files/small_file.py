"""Reads small files as a whole, with a bound on their size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 1_000_000
"""Default bound, hundreds of times the size of a configuration or a password."""


def read_small(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of the file at *path*.

    Raises:
        OSError: If it cannot be read, is not a regular file (a device may have no end, a named pipe
            no beginning), or has more than *most_bytes* bytes.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file")
        # A file that is too large is not read; one more byte shows whether it grew meanwhile.
        content = file.read(most_bytes + 1) if status.st_size <= most_bytes else b""
    if max(len(content), status.st_size) > most_bytes:
        raise OSError(errno.EFBIG, f"is larger than {most_bytes} bytes")
    return content


def require_small(path: Path) -> None:
    """Check that the file at *path* is safe to be read by a library, as `read_small` would do.

    Raises:
        OSError: For the reasons of `read_small`.
    """
    read_small(path)


def _open_at_once(path: str, flags: int) -> int:
    """Open *path* without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
