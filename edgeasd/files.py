"""Files that a command makes for its user: whole or not at all, and told if they cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeasd.errors import StorageError
from edgeasd.whole_file import draft_of, whole_file


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


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StorageError(
            f"{path}: cannot be written ({exc.strerror}); run the command as a user who may write "
            f"to {path.parent}, on a disk that is not full"
        ) from exc
