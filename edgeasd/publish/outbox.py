"""Events that the broker has not acknowledged yet, on disk.

SQLite in WAL mode with ``synchronous=FULL``: an event outlives the process and the power once
`Outbox.put` has returned.  Trouble with the disk never reaches the caller.  Events then wait in
memory, and `Outbox.fault` says why.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgeasd.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

MAX_HELD = 1000
"""Most events kept in memory while the disk cannot be written; about 1 kB each."""

_BUSY_TIMEOUT_S = 1.0
# Blobs, as SQLite verifies no text, and a checksum, as it verifies no content: a flipped bit must
# not become an alert, nor a topic for which the broker closes the connection again and again.
_TABLE = (
    "event (position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, topic BLOB NOT NULL, "
    "payload BLOB NOT NULL, checksum INTEGER NOT NULL)"
)
# What was last said on a topic, kept when the event itself has been delivered.
_LATEST_TABLE = (
    "latest (topic BLOB PRIMARY KEY, id BLOB NOT NULL, payload BLOB NOT NULL, "
    "checksum INTEGER NOT NULL)"
)
_SELECT = "SELECT id, topic, payload, checksum FROM event ORDER BY position LIMIT ?"
_INSERT = "INSERT OR IGNORE INTO event (id, topic, payload, checksum) VALUES (?, ?, ?, ?)"
_SELECT_LATEST = "SELECT id, topic, payload, checksum FROM latest LIMIT ?"
_REPLACE_LATEST = "REPLACE INTO latest (id, topic, payload, checksum) VALUES (?, ?, ?, ?)"
_DELETE = "DELETE FROM event WHERE id = ?"
_DELETE_OLDEST = (
    "DELETE FROM event WHERE position IN (SELECT position FROM event ORDER BY position LIMIT ?)"
)


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event as it is published.

    Attributes:
        event_id: Its name; the same event has the same name whenever it is sent.
        topic: Where to.
        payload: What is said.
    """

    event_id: str
    topic: str
    payload: bytes


class Outbox:
    """Events that wait for the broker's acknowledgement, oldest first; any thread may call.

    Args:
        path: Database file; its directory is made if need be.
        max_events: Most events kept; beyond it the oldest are dropped and counted.

    Raises:
        StorageError: If the directory or the file is not to be written by this user.
    """

    def __init__(self, path: Path, max_events: int = 10_000) -> None:
        _require_writable(path)
        self._path = path
        self._max_events = max_events
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._latest: dict[str, QueuedEvent] = {}
        # What the file does not say yet: events to add, and ids to delete.
        self._held: dict[str, QueuedEvent] = {}
        self._acknowledged: set[str] = set()
        self._dropped = 0
        self._fault = ""
        with self._lock:
            for event in self._attempt(_read_latest) or []:
                self._latest[event.topic] = event
            self._attempt(self._write)

    @property
    def dropped(self) -> int:
        """Events given up since the start, as too many waited or the disk damaged them."""
        return self._dropped

    @property
    def fault(self) -> str:
        """Why events are not on disk, in words; empty when they are."""
        return self._fault

    def __len__(self) -> int:
        with self._lock:
            stored = self._attempt(lambda db: db.execute("SELECT id FROM event").fetchall()) or []
            acknowledged = {(event_id.encode(),) for event_id in self._acknowledged}
            held = {(event_id.encode(),) for event_id in self._held}
            return len(set(stored) - acknowledged | held)

    def put(self, event_id: str, topic: str, payload: bytes) -> None:
        """Keep an event, on disk when this returns; putting it twice is harmless."""
        with self._lock:
            self._held[event_id] = self._latest[topic] = QueuedEvent(event_id, topic, payload)
            self._synchronise()

    def latest(self, topic: str) -> bytes | None:
        """Return what was last put for *topic*, delivered or not; None if nothing ever was."""
        with self._lock:
            event = self._latest.get(topic)
            return None if event is None else event.payload

    def topics(self) -> list[str]:
        """Return the topics for which anything ever was put."""
        with self._lock:
            return list(self._latest)

    def pending(self, limit: int) -> list[QueuedEvent]:
        """Return the *limit* oldest events, oldest first."""
        with self._lock:
            self._synchronise()
            stored = self._attempt(lambda db: self._read(db, limit)) or []
            # An event can be in both: an error may come after the disk has taken it.
            events = {event.event_id: event for event in stored} | self._held
            return list(events.values())[:limit]

    def remove(self, *event_ids: str) -> None:
        """Forget events that were acknowledged; unknown ones are ignored."""
        with self._lock:
            for event_id in event_ids:
                self._held.pop(event_id, None)
                self._acknowledged.add(event_id)
            self._synchronise()

    def recover(self) -> None:
        """Write what waits in memory if the disk can be written again; cheap without a fault."""
        with self._lock:
            self._synchronise()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._synchronise()
            self._disconnect()

    def _synchronise(self) -> None:
        if self._held or self._acknowledged or self._fault:
            self._attempt(self._write)

    def _write(self, db: sqlite3.Connection) -> None:
        db.executemany(_DELETE, [(event_id.encode(),) for event_id in self._acknowledged])
        db.executemany(_INSERT, [_row(event) for event in self._held.values()])
        # All of them, one a machine: the file may be a new one after damage.
        db.executemany(_REPLACE_LATEST, [_row(event) for event in self._latest.values()])
        (n_events,) = db.execute("SELECT count(*) FROM event").fetchone()
        n_excess = max(0, n_events - self._max_events)
        db.execute(_DELETE_OLDEST, (n_excess,))
        db.commit()
        self._count_dropped(n_excess, f"more than {self._max_events} wait")
        self._held.clear()
        self._acknowledged.clear()
        if self._fault:
            _log.info("%s: can be written again", self._path)
            self._fault = ""

    def _read(self, db: sqlite3.Connection, limit: int) -> list[QueuedEvent]:
        rows = db.execute(_SELECT, (limit + len(self._acknowledged),)).fetchall()
        events = [_verified(row) for row in rows]
        return [event for event in events if event.event_id not in self._acknowledged]

    def _attempt(self, operation: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Return what *operation* does with the file, or nothing and say why."""
        try:
            try:
                return self._with_file(operation)
            except sqlite3.DatabaseError as exc:
                if type(exc) is not sqlite3.DatabaseError:  # itself means damaged, a subclass not
                    raise
                self._set_aside(exc)
                self._with_file(self._write)
                return self._with_file(operation)
        except (sqlite3.Error, OSError) as exc:
            self._fail(exc)
            return None

    def _with_file(self, operation: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._db is None:
            self._db = _connect(self._path)
        with self._db:  # rolls back on an error
            return operation(self._db)

    def _fail(self, exc: Exception) -> None:
        fault = f"{self._path}: {exc}; alerts wait in memory until it can be written"
        if fault != self._fault:
            _log.error("%s", fault)
        self._fault = fault
        n_excess = max(0, len(self._held) - MAX_HELD)
        for event_id in list(self._held)[:n_excess]:
            del self._held[event_id]
        self._count_dropped(n_excess, f"more than {MAX_HELD} wait in memory")

    def _count_dropped(self, n_events: int, reason: str) -> None:
        if n_events:
            self._dropped += n_events
            _log.warning("dropped the %d oldest alerts: %s", n_events, reason)

    def _set_aside(self, exc: Exception) -> None:
        """Move a damaged file away and hold what can still be read of it."""
        self._disconnect()
        events = {event.event_id: event for event in _salvage(self._path, _SELECT)} | self._held
        for event in _salvage(self._path, _SELECT_LATEST):
            self._latest.setdefault(event.topic, event)
        self._held = {name: events[name] for name in events if name not in self._acknowledged}
        names = (f"{self._path.name}.corrupt-{n}" for n in itertools.count(1))
        aside = next(path for name in names if not (path := self._path.with_name(name)).exists())
        # SQLite has merged its log into the file, or deletes it when it finds no file beside it.
        self._path.rename(aside)
        _log.error(
            "%s: is damaged (%s); moved to %s, %d alerts saved",
            self._path,
            exc,
            aside,
            len(self._held),
        )

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _require_writable(path: Path) -> None:
    directory = path.parent
    rule = "must be a directory that the user who runs edgeasd can write"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(
            f"state_dir={directory} {rule} ({exc.strerror}); create it or choose another"
        ) from exc
    # Access is asked for rather than tried: a full disk must not keep the daemon from starting.
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StorageError(f"state_dir={directory} {rule}; change its owner or choose another")
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise StorageError(f"{path} must be a file that can be written; change its owner")


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, make it if need be, and verify it.

    Raises:
        sqlite3.OperationalError: If it cannot be used now.
        sqlite3.DatabaseError: If it is damaged.
    """
    # One lock guards the connection, so any thread may use it.
    db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        db.text_factory = bytes
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE}")
        db.execute(f"CREATE TABLE IF NOT EXISTS {_LATEST_TABLE}")
        _verify(db)
    except BaseException:
        db.close()
        raise
    return db


def _verify(db: sqlite3.Connection) -> None:
    tables = db.execute("SELECT sql FROM sqlite_master WHERE name = 'event'").fetchall()
    if tables != [(f"CREATE TABLE {_TABLE}".encode(),)]:
        raise sqlite3.DatabaseError("another schema")
    # Checks the index too: a wrong one hides rows from DELETE, and their alerts would be repeated.
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != b"ok":
        raise sqlite3.DatabaseError(verdict.decode(errors="replace"))


def _row(event: QueuedEvent) -> tuple[bytes, bytes, bytes, int]:
    fields = (event.event_id.encode(), event.topic.encode(), event.payload)
    return (*fields, _checksum(*fields))


def _verified(row: tuple[Any, ...]) -> QueuedEvent:
    event_id, topic, payload, checksum = row
    fields = (event_id, topic, payload)
    if not all(isinstance(field, bytes) for field in fields) or _checksum(*fields) != checksum:
        raise sqlite3.DatabaseError("an event has a wrong checksum")
    return QueuedEvent(event_id.decode(), topic.decode(), payload)


def _checksum(*fields: bytes) -> int:
    # The lengths fix where one field ends and the next one starts.
    return zlib.crc32(b"".join(len(field).to_bytes(4, "big") + field for field in fields))


def _read_latest(db: sqlite3.Connection) -> list[QueuedEvent]:
    return [_verified(row) for row in db.execute(_SELECT_LATEST, (-1,))]


def _salvage(path: Path, query: str) -> list[QueuedEvent]:
    """Return the events of a damaged file that can be read and have the right checksum."""
    events: list[QueuedEvent] = []
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        for row in db.execute(query, (-1,)):
            with contextlib.suppress(sqlite3.DatabaseError):
                events.append(_verified(row))
    return events
