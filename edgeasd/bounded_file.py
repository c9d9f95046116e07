"""Files that others may have left, read within bounds."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of the regular file at *path*, at most *most_bytes* of it.

    Neither a pipe that nobody writes nor a device that never ends is opened, and what is too large
    costs no memory.

    Raises:
        OSError: If it cannot be read, is no regular file or is larger; ``strerror`` says which.
    """
    _check(path.stat(), most_bytes)  # before it is opened: to open a device may do harm
    # Without waiting, should a pipe have taken its place meanwhile.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        _check(os.fstat(file.fileno()), most_bytes)
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:  # it grows
        raise _too_large(most_bytes)
    return content


def _check(status: os.stat_result, most_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > most_bytes:
        raise _too_large(most_bytes)


def _too_large(most_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most_bytes // 2**20} MiB")
