"""Files that are read whole: only what is a file, and only so much of it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 1_000_000
"""Hundreds of times what a configuration or a password takes."""


def read_small(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of the file at *path*.

    Raises:
        OSError: If it cannot be read, is no regular file (of which a device has no end, and a named
            pipe no beginning), or has more than *most_bytes*.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        # What is too large costs no memory; but it may grow meanwhile.
        content = file.read(most_bytes + 1) if status.st_size <= most_bytes else b""
    if max(len(content), status.st_size) > most_bytes:
        raise OSError(errno.EFBIG, f"is larger than {most_bytes} bytes")
    return content


def require_small(path: Path) -> None:
    """Check that a library may read the file at *path*: as `read_small`.

    Raises:
        OSError: As there.
    """
    read_small(path)


def _open_at_once(path: str, flags: int) -> int:
    """Open *path* without waiting for whoever writes into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
