"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from edgeasd.errors import StorageError

DRAFT_SUFFIX = ".part"


def draft_of(path: Path) -> Path:
    """Return where what will be *path* stands until it is whole.

    The name is a hidden one: after a power cut nobody takes it for what it was to be.
    """
    return path.with_name(f".{path.name}{DRAFT_SUFFIX}")


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Give a file to write to, which becomes *path* at the end of the ``with`` block.

    A reader finds what was there before or the whole of the new, also after a power cut.  Whatever
    is raised, in the block or here, leaves what was there and no draft; only a kill or a power cut
    leaves a draft, which the next writer of *path* replaces.

    Args:
        path: A file that need not exist, in a folder that does.
        mode: Permissions, less those that the umask takes away.

    Raises:
        OSError: If it cannot be written.
    """
    draft = draft_of(path)
    try:
        if os.path.lexists(draft):
            draft.unlink()
        with open(draft, "xb", opener=partial(os.open, mode=mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # a disk that takes nothing was told already
            draft.unlink()
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the names in *folder* outlive the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # so says a network's file system that knows no such thing
            raise
    finally:
        os.close(descriptor)


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
    draft = draft_of(path)
    with _told(path):
        draft.touch()
        draft.unlink()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StorageError(
            f"{path}: cannot be written ({exc.strerror}); run the command as a user who may write "
            f"to {path.parent}, on a disk that is not full"
        ) from exc
