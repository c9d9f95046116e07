"""The outbox for who only looks: of a copy, as SQLite writes beside what it reads.

Were root to open the daemon's own file, the log beside it would be root's, and nothing that the
daemon could write.  And a damaged file is the daemon's to mend.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from edgeasd.common.errors import StorageError, os_reason
from edgeasd.common.files.folders import open_plain, opened_folder
from edgeasd.publish.outbox.event_file import EventFile

_MOST_BYTES = 128 * 2**20
"""As many events as may wait take 14 MB."""
_N_TRIES = 10


def count_waiting(database: Path) -> int:
    """Return how many events wait in the outbox at *database*; 0 if there is none.

    Raises:
        StorageError: If it is damaged, or cannot be looked at.
    """
    try:
        before = _contents(database)
        for _ in range(_N_TRIES):
            files, before = before, _contents(database)
            if files == before:  # else the daemon wrote to one before the other was read
                return _count(database, files)
    except OSError as exc:
        raise StorageError(
            f"{database}: cannot be read ({os_reason(exc)}); remove it while the daemon is stopped"
        ) from exc
    raise StorageError(f"{database}: changes too often to be looked at; try again")


def _contents(database: Path) -> dict[str, bytes]:
    """Return what is in the database and in its log, by name; of what is there."""
    found = {}
    with opened_folder(database.parent) as folder:
        for name in (database.name, f"{database.name}-wal"):
            try:
                file = open_plain(name, os.O_RDONLY, folder=folder)
            except FileNotFoundError:
                break  # a log alone is worth nothing
            with os.fdopen(file, "rb") as opened:
                if os.fstat(file).st_size > _MOST_BYTES:
                    raise OSError(f"{name} is larger than {_MOST_BYTES >> 20} MB")
                found[name] = opened.read(_MOST_BYTES)
    return found


def _count(database: Path, files: dict[str, bytes]) -> int:
    if not files:
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            Path(scratch, name).write_bytes(content)
        try:
            with closing(EventFile(Path(scratch, database.name))) as copy:
                return len(copy)
        except sqlite3.Error as exc:
            raise StorageError(
                f"{database}: cannot be read ({exc}); restart the daemon, which sets a damaged one "
                "aside and saves what is left in it"
            ) from exc
