"""Events that the broker has not acknowledged yet, on disk.

SQLite in WAL mode with ``synchronous=FULL``: once `Outbox.put` has returned, an event survives the
end of the process and a power cut.  A fault of the disk is no error for the caller: events then
wait in memory, and `Outbox.fault` says why.

SQLite reuses the space of deleted events, so the file stays as large as the most events that ever
waited: 14 MB for the 10,000 events of 1 kB that may wait.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from edgeasd.publish.outbox.event_file import EventFile, QueuedEvent, require_writable, salvage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

MAX_HELD = 1000
"""Most events kept in memory while the disk cannot be written; about 1 kB each."""

MAX_AGE_S = 30 * 86_400.0
"""Longest time that an event waits, in seconds: alerts of last month would bury those of today."""

# Names of notes in the file: the latest event of each topic, and how long daemons have run.
_LATEST = "latest/"
_RUNNING_MS = "running_ms"


class Outbox:
    """Events that wait for the broker's acknowledgement, oldest first; any thread may call.

    Args:
        path: Database file; its directory is made if need be.
        max_events: Most events kept; of more, the oldest are dropped and counted.
        max_age_s: Seconds after which an event is dropped and counted.  Only the time in which the
            outbox is open counts, as the wall clock may jump by years when a time server sets it.

    Raises:
        StorageError: If this user may not write the directory or the file.
    """

    def __init__(self, path: Path, max_events: int = 10_000, max_age_s: float = MAX_AGE_S) -> None:
        require_writable(path)
        self._path = path
        self._max_events = max_events
        self._max_age_ms = round(1000 * max_age_s)
        self._lock = threading.Lock()
        self._file: EventFile | None = None
        # Changes not yet in the file: events to add, ids to delete, and latest payloads.
        self._held: dict[str, QueuedEvent] = {}
        self._acknowledged: set[str] = set()
        self._latest: dict[str, bytes] = {}
        # How long the outbox has been open, in this run and those before.
        self._opened_at = time.monotonic()
        self._ran_before_ms = 0
        self._looked_ms = 0
        self._dropped = 0
        self._fault = ""
        with self._lock:
            self._attempt(self._write)

    @property
    def dropped(self) -> int:
        """Events dropped since the start: too many, too old, damaged, or taken by no broker."""
        return self._dropped

    @property
    def fault(self) -> str:
        """Why events are not on disk, in words; empty when they are."""
        return self._fault

    def __len__(self) -> int:
        with self._lock:
            stored = self._attempt(EventFile.ids) or set()
            acknowledged = {event_id.encode() for event_id in self._acknowledged}
            held = {event_id.encode() for event_id in self._held}
            return len(stored - acknowledged | held)

    def put(self, event_id: str, topic: str, payload: bytes, note: bytes = b"") -> None:
        """Store an event on disk before returning; storing it twice is harmless.

        Args:
            event_id: Name of the event.
            topic: Topic to publish on.
            payload: Content of the message.
            note: Note that `latest` returns; empty for *payload*.
        """
        with self._lock:
            self._held[event_id] = QueuedEvent(event_id, topic, payload)
            self._latest[topic] = note or payload
            self._synchronise()

    def latest(self, topic: str) -> bytes | None:
        """Return the note on the last event put for *topic*, delivered or not; None without one.

        After damage to the file it may be the payload only.
        """
        with self._lock:
            self._synchronise()
            if topic in self._latest:
                return self._latest[topic]
            return self._attempt(lambda file: file.note(_LATEST + topic))

    def topics(self) -> list[str]:
        """Return the topics for which an event was ever put."""
        with self._lock:
            self._synchronise()
            noted = _latest(self._attempt(EventFile.notes) or {})
            return list(noted | self._latest)

    def heads(self) -> list[QueuedEvent]:
        """Return the oldest event of each topic, oldest first."""
        with self._lock:
            self._synchronise()
            heads: dict[str, QueuedEvent] = {}
            for head in [*(self._attempt(EventFile.heads) or []), *self._held.values()]:
                if head.topic not in heads:
                    # The file may still hold acknowledged events if it cannot be written.
                    found = self._pending(1, head.topic) if self._acknowledged else [head]
                    heads |= {event.topic: event for event in found}
            return list(heads.values())

    def pending(self, limit: int, topic: str | None = None) -> list[QueuedEvent]:
        """Return the *limit* oldest events, of *topic* or of all, oldest first."""
        with self._lock:
            self._synchronise()
            return self._pending(limit, topic)

    def _pending(self, limit: int, topic: str | None) -> list[QueuedEvent]:
        stored = self._attempt(lambda file: self._read(file, limit, topic)) or []
        held = [event for event in self._held.values() if topic in {None, event.topic}]
        # An event can be in both, if an error came after it was written.
        events = {event.event_id: event for event in [*stored, *held]}
        return list(events.values())[:limit]

    def remove(self, *event_ids: str) -> None:
        """Forget events that were acknowledged; unknown ones are ignored."""
        with self._lock:
            self._remove(event_ids)

    def give_up(self, event_ids: Collection[str], reason: str) -> None:
        """Forget events that cannot be delivered, log why, and count them as dropped."""
        with self._lock:
            self._count_dropped(len(event_ids), reason)
            self._remove(event_ids)

    def _remove(self, event_ids: Iterable[str]) -> None:
        for event_id in event_ids:
            self._held.pop(event_id, None)
            self._acknowledged.add(event_id)
        self._synchronise()

    def recover(self) -> None:
        """Write the events that wait in memory, if the disk can be written; cheap without any."""
        with self._lock:
            self._synchronise()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._attempt(self._write)
            self._disconnect()

    def _synchronise(self) -> None:
        is_news = self._held or self._acknowledged or self._latest or self._fault
        if is_news or self._is_clock_due:
            self._attempt(self._write)

    @property
    def _is_clock_due(self) -> bool:
        return self._running_ms() - self._looked_ms > self._max_age_ms / 100

    def _running_ms(self) -> int:
        return self._ran_before_ms + round(1000 * (time.monotonic() - self._opened_at))

    def _write(self, file: EventFile) -> None:
        running_ms, n_old, n_excess = self._running_ms(), 0, 0
        looks_at_all = bool(self._held) or self._is_clock_due
        with file.transaction():
            file.delete(self._acknowledged)
            file.add(self._held.values(), running_ms)
            latest = {_LATEST + topic: payload for topic, payload in self._latest.items()}
            file.write_notes({**latest, _RUNNING_MS: b"%d" % running_ms})
            if looks_at_all:  # not after each delivery, of which there may be thousands
                n_old = file.delete_put_before(running_ms - self._max_age_ms)
                n_excess = max(0, len(file) - self._max_events)
                file.delete_oldest(n_excess)
        self._count_dropped(
            n_old, f"they wait for more than {self._max_age_ms / 86_400_000:g} days"
        )
        self._count_dropped(n_excess, f"more than {self._max_events} wait")
        if looks_at_all:
            self._looked_ms = running_ms
        self._held.clear()
        self._acknowledged.clear()
        self._latest.clear()
        if self._fault:
            _log.info("%s: can be written again", self._path)
            self._fault = ""

    def _read(self, file: EventFile, limit: int, topic: str | None) -> list[QueuedEvent]:
        events = file.oldest(limit + len(self._acknowledged), topic)
        return [event for event in events if event.event_id not in self._acknowledged]

    def _attempt(self, operation: Callable[[EventFile], _T]) -> _T | None:
        """Return the result of *operation* on the file; None, with a fault, if it fails."""
        try:
            try:
                return operation(self._connected())
            except sqlite3.DatabaseError as exc:
                if (
                    type(exc) is not sqlite3.DatabaseError
                ):  # a subclass is no damage; see event_file
                    raise
                self._set_aside(exc)
                return operation(self._connected())
        except (sqlite3.Error, OSError) as exc:
            self._fail(exc)
            return None

    def _connected(self) -> EventFile:
        if self._file is not None and not self._file.is_at(self._path):
            self._move(self._file)
        if self._file is None:
            file = EventFile(self._path)
            ran_ms = int(file.note(_RUNNING_MS) or 0)
            # The time of earlier runs is added.
            self._ran_before_ms += max(0, ran_ms - self._running_ms())
            self._file = file
            if self._held or self._latest:  # the contents of a file that this one replaces
                self._write(file)
        return self._file

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
        """Move a damaged file away and hold in memory what can still be read of it."""
        self._disconnect()
        self._hold(*salvage(self._path))
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

    def _move(self, file: EventFile) -> None:
        """Hold in memory the contents of a file that is no longer in place, for the next one."""
        _log.error("%s: was replaced or deleted; its alerts are written again", self._path)
        with contextlib.suppress(sqlite3.Error):
            self._hold(file.oldest(-1), file.notes())
        self._disconnect()

    def _hold(self, events: list[QueuedEvent], notes: dict[str, bytes]) -> None:
        """Hold the contents of a file in memory; what is newer there takes precedence."""
        held = {event.event_id: event for event in events} | self._held
        self._held = {name: held[name] for name in held if name not in self._acknowledged}
        latest = {event.topic: event.payload for event in events} | _latest(notes)
        self._latest = latest | self._latest

    def _disconnect(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _latest(notes: dict[str, bytes]) -> dict[str, bytes]:
    return {name[len(_LATEST) :]: notes[name] for name in notes if name.startswith(_LATEST)}
