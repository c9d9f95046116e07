"""The SQLite file of the outbox: its tables, and checks whether it can be trusted.

A method that finds the file damaged raises `sqlite3.DatabaseError` itself, not a subclass.  Every
other fault (a full disk, a lock) is a subclass or an `OSError`, and may pass.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeasd.common.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_BUSY_TIMEOUT_S = 1.0
_LOG_PAGES = 32
"""Pages of 4 kB in the write-ahead log before they are copied to the database.  The log keeps its
size, so alerts still pass through it on a full disk, as long as they are delivered."""
# Blobs, since SQLite does not verify text, and a checksum, since it does not verify content: a
# flipped bit must not become an alert, or a topic at which the broker always ends the connection.
_FIRST_EVENT_TABLE = (
    "event (position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, topic BLOB NOT NULL, "
    "payload BLOB NOT NULL, checksum INTEGER NOT NULL"
)
"""The table of the first release, without the closing parenthesis."""
_AGE_COLUMN = "put_ms INTEGER NOT NULL DEFAULT 0"
_TABLES = {
    "event": f"{_FIRST_EVENT_TABLE}, {_AGE_COLUMN})",
    "note": "note (name BLOB NOT NULL UNIQUE, value BLOB NOT NULL, checksum INTEGER NOT NULL)",
}
_TOPIC_INDEX = "CREATE INDEX IF NOT EXISTS event_by_topic ON event (topic)"
_ROWS = "SELECT id, topic, payload, checksum FROM event"
_SELECT = f"{_ROWS} ORDER BY position LIMIT ?"
_SELECT_OF_TOPIC = f"{_ROWS} WHERE topic = ? ORDER BY position LIMIT ?"
# Goes from topic to topic by the index; GROUP BY takes a hundred times longer for 10,000 events.
_SELECT_HEADS = f"""
WITH RECURSIVE head (topic) AS (
    SELECT min(topic) FROM event
    UNION ALL
    SELECT (SELECT min(topic) FROM event WHERE topic > head.topic) FROM head WHERE topic NOT NULL
)
{_ROWS} WHERE position IN (
    SELECT (SELECT min(position) FROM event WHERE event.topic = head.topic) FROM head
) ORDER BY position"""  # noqa: S608  # constants
_INSERT = (
    "INSERT OR IGNORE INTO event (id, topic, payload, checksum, put_ms) VALUES (?, ?, ?, ?, ?)"
)
_DELETE = "DELETE FROM event WHERE id = ?"
_DELETE_OLDEST = (
    "DELETE FROM event WHERE position IN (SELECT position FROM event ORDER BY position LIMIT ?)"
)
_DELETE_PUT_BEFORE = "DELETE FROM event WHERE put_ms < ?"
_SELECT_NOTES = "SELECT name, value, checksum FROM note"
_SELECT_NOTE = f"{_SELECT_NOTES} WHERE name = ?"
_INSERT_NOTE = "INSERT OR REPLACE INTO note (name, value, checksum) VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event as it is published.

    Attributes:
        event_id: Name of the event, the same whenever it is sent.
        topic: Topic to publish on.
        payload: Content of the message.
    """

    event_id: str
    topic: str
    payload: bytes


class EventFile:
    """An open file of events, in the order in which they were added, and of notes by name.

    Only one thread at a time may use it.  Changes are lost unless made within `transaction`.

    Args:
        path: The file; made if need be.

    Raises:
        sqlite3.OperationalError: If it cannot be used now.
        sqlite3.DatabaseError: If it is damaged.
    """

    def __init__(self, path: Path) -> None:
        _verify_header(path)
        # The outbox ensures that one thread at a time uses the connection.
        self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            self._db.text_factory = bytes
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            self._make_tables()
            self._verify()
            self._identity = _identity(path)
        except BaseException:
            self.close()
            raise

    def is_at(self, path: Path) -> bool:
        """Return whether this file is still at *path*: not deleted, replaced or mounted over."""
        return self._identity == _identity(path)

    def transaction(self) -> contextlib.AbstractContextManager[object]:
        """Commit at the end, flushed to disk; roll back on an error."""
        return self._db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, events: Iterable[QueuedEvent], put_ms: int) -> None:
        """Append *events*, put at *put_ms*; those already there stay unchanged."""
        self._db.executemany(_INSERT, [(*_event_row(event), put_ms) for event in events])

    def delete(self, event_ids: Iterable[str]) -> None:
        """Delete these events; unknown ones are ignored."""
        self._db.executemany(_DELETE, [(event_id.encode(),) for event_id in event_ids])

    def delete_oldest(self, n_events: int) -> None:
        """Delete the *n_events* oldest events."""
        self._db.execute(_DELETE_OLDEST, (n_events,))

    def delete_put_before(self, put_ms: int) -> int:
        """Delete the events put before *put_ms*, and return their number."""
        return self._db.execute(_DELETE_PUT_BEFORE, (put_ms,)).rowcount

    def oldest(self, limit: int, topic: str | None = None) -> list[QueuedEvent]:
        """Return the *limit* oldest events, of *topic* or of all, oldest first; -1 is no limit."""
        rows = (
            self._db.execute(_SELECT, (limit,))
            if topic is None
            else self._db.execute(_SELECT_OF_TOPIC, (topic.encode(), limit))
        )
        return [_event(row) for row in rows.fetchall()]

    def heads(self) -> list[QueuedEvent]:
        """Return the oldest event of each topic, oldest first."""
        return [_event(row) for row in self._db.execute(_SELECT_HEADS).fetchall()]

    def ids(self) -> set[Any]:
        """Return the encoded ids of all events; that of a damaged one can be anything."""
        return {event_id for (event_id,) in self._db.execute("SELECT id FROM event")}

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM event").fetchone()[0])

    def note(self, name: str) -> bytes | None:
        """Return the note *name*; None if there is none."""
        row = self._db.execute(_SELECT_NOTE, (name.encode(),)).fetchone()
        return None if row is None else _note(row)[1]

    def notes(self) -> dict[str, bytes]:
        """Return all notes by name."""
        return dict(_note(row) for row in self._db.execute(_SELECT_NOTES).fetchall())

    def write_notes(self, notes: Mapping[str, bytes]) -> None:
        """Write *notes* by their names, in place of earlier ones."""
        rows = [(name.encode(), value) for name, value in notes.items()]
        self._db.executemany(_INSERT_NOTE, [(*row, _checksum(*row)) for row in rows])

    def _make_tables(self) -> None:
        if self._schema("event") == f"CREATE TABLE {_FIRST_EVENT_TABLE})".encode():
            self._db.execute(f"ALTER TABLE event ADD COLUMN {_AGE_COLUMN}")
        for table in _TABLES.values():
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        self._db.execute(_TOPIC_INDEX)

    def _verify(self) -> None:
        for name, table in _TABLES.items():
            if self._schema(name) != f"CREATE TABLE {table}".encode():
                raise sqlite3.DatabaseError("another schema")
        # Includes the index: a wrong one would hide rows from DELETE, so that their alerts would be
        # sent again.
        (verdict,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != b"ok":
            raise sqlite3.DatabaseError(verdict.decode(errors="replace"))

    def _schema(self, name: str) -> bytes | None:
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
        row = self._db.execute(query, (name,)).fetchone()
        return None if row is None else bytes(row[0])


def _verify_header(path: Path) -> None:
    """Check for damage that SQLite would report as a file that cannot be written.

    To be called before SQLite opens the file, as closing it here would release SQLite's locks.

    References:
        SQLite, "Database File Format", sections 1.3.3 and 1.3.9.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(48)
    write_version, schema_format = header[18:19], int.from_bytes(header[44:48], "big")
    if write_version not in {b"", b"\1", b"\2"} or schema_format > 4:  # noqa: PLR2004
        raise sqlite3.DatabaseError("another file format")


def require_writable(path: Path) -> None:
    """Verify that this user may write the file at *path*, which need not exist, and its directory.

    Raises:
        StorageError: If not; the message says what to do.
    """
    directory = path.parent
    rule = "must be a directory that the user who runs edgeasd can write"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(
            f"state_dir={directory} {rule} ({exc.strerror}); create it or choose another"
        ) from exc
    # By permission, not by writing: a full disk must not keep the daemon from starting.
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StorageError(f"state_dir={directory} {rule}; change its owner or choose another")
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise StorageError(f"{path} must be a file that can be written; change its owner")


def salvage(path: Path) -> tuple[list[QueuedEvent], dict[str, bytes]]:
    """Return the events and notes of a damaged file that have the right checksum."""
    events: list[QueuedEvent] = []
    notes: dict[str, bytes] = {}
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        with contextlib.suppress(sqlite3.Error):
            for row in db.execute(_SELECT, (-1,)):
                with contextlib.suppress(sqlite3.DatabaseError):
                    events.append(_event(row))
        for row in db.execute(_SELECT_NOTES):
            with contextlib.suppress(sqlite3.DatabaseError):
                name, value = _note(row)
                notes[name] = value
    return events, notes


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _event_row(event: QueuedEvent) -> tuple[bytes, bytes, bytes, int]:
    fields = (event.event_id.encode(), event.topic.encode(), event.payload)
    return (*fields, _checksum(*fields))


def _event(row: tuple[Any, ...]) -> QueuedEvent:
    event_id, topic, payload = _verified(row, "an event")
    return QueuedEvent(event_id.decode(), topic.decode(), payload)


def _note(row: tuple[Any, ...]) -> tuple[str, bytes]:
    name, value = _verified(row, "a note")
    return name.decode(), value


def _verified(row: tuple[Any, ...], what: str) -> tuple[bytes, ...]:
    *fields, checksum = row
    if not all(isinstance(field, bytes) for field in fields) or _checksum(*fields) != checksum:
        raise sqlite3.DatabaseError(f"{what} has a wrong checksum")
    return tuple(fields)


def _checksum(*fields: bytes) -> int:
    # The lengths tell where one field ends and the next one starts.
    return zlib.crc32(b"".join(len(field).to_bytes(4, "big") + field for field in fields))
