"""Counts the events in the outbox of a running daemon, in a copy of its file.

SQLite writes a log beside a file that it reads.  If root opened the file of the daemon, root would
own that log, and the daemon could not write it any more.  A damaged file is left to the daemon.
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
"""Largest file copied; the 10,000 events that may wait take 14 MB."""
_N_TRIES = 10


def count_waiting(database: Path) -> int:
    """Return how many events wait in the outbox at *database*; 0 if there is none.

    Raises:
        StorageError: If it is damaged, or cannot be read.
    """
    try:
        before = _contents(database)
        for _ in range(_N_TRIES):
            files, before = before, _contents(database)
            if files == before:  # otherwise the daemon wrote between the two reads
                return _count(database, files)
    except OSError as exc:
        raise StorageError(
            f"{database}: cannot be read ({os_reason(exc)}); remove it while the daemon is stopped"
        ) from exc
    raise StorageError(f"{database}: changes too often to be read; try again")


def _contents(database: Path) -> dict[str, bytes]:
    """Return the contents of the database and of its log, by file name, as far as they exist."""
    found = {}
    with opened_folder(database.parent) as folder:
        for name in (database.name, f"{database.name}-wal"):
            try:
                file = open_plain(name, os.O_RDONLY, folder=folder)
            except FileNotFoundError:
                break  # a log without its database is useless
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
                f"{database}: cannot be read ({exc}); restart the daemon, which moves a damaged "
                "file aside and saves the alerts in it that can still be read"
            ) from exc
