"""Events survive kills and power cuts; a fault of the disk is no error for the caller."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from edgeasd.common.errors import StorageError
from edgeasd.publish.outbox import outbox as outbox_module
from edgeasd.publish.outbox.event_file import EventFile, QueuedEvent
from edgeasd.publish.outbox.outbox import Outbox
from tests.disks import mounted_tmpfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.disks import SmallDisk

TOPIC = "edgeasd/v1/edge-03/press07/event"


def event(n: int) -> QueuedEvent:
    """Event number *n*, as large as a real one."""
    return QueuedEvent(f"edge-03-5f1c2a9b-{n:06d}", TOPIC, b"%06d" % n * 100)


def put(outbox: Outbox, *numbers: int) -> None:
    """Put the events of these numbers."""
    for n in numbers:
        outbox.put(event(n).event_id, event(n).topic, event(n).payload)


def events(*numbers: int) -> list[QueuedEvent]:
    """The events of these numbers."""
    return [event(n) for n in numbers]


@pytest.fixture
def open_outbox() -> Iterator[Callable[..., Outbox]]:
    """Opens outboxes and closes them in the end."""
    opened: list[Outbox] = []

    def open_one(path: Path, **options: Any) -> Outbox:
        opened.append(Outbox(path, **options))
        return opened[-1]

    yield open_one
    for outbox in opened:
        outbox.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of its own for one test."""
    with mounted_tmpfs(tmp_path / "disk", "256k") as disk:
        yield disk


def test_outbox_of_several_events_gives_them_in_order(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """The oldest come first, no more than asked for."""
    outbox = open_outbox(tmp_path / "outbox.db")

    put(outbox, 3, 1, 2)

    assert outbox.pending(10) == events(3, 1, 2)
    assert outbox.pending(2) == events(3, 1)
    assert (len(outbox), outbox.dropped, outbox.fault) == (3, 0, "")


def test_outbox_after_remove_forgets_the_event(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """Acknowledged events do not come back; unknown ids change nothing."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, 1, 2, 3, 4)

    outbox.remove(event(1).event_id, event(3).event_id)
    outbox.remove("unknown")

    assert outbox.pending(10) == events(2, 4)
    outbox.close()
    assert open_outbox(path).pending(10) == events(2, 4)


def test_outbox_same_id_twice_keeps_one(tmp_path: Path, open_outbox: Callable[..., Outbox]) -> None:
    """Putting an event again is harmless: the first one stays, in its place."""
    outbox = open_outbox(tmp_path / "outbox.db")
    put(outbox, 1, 2)

    outbox.put(event(1).event_id, TOPIC, b"other")

    assert outbox.pending(10) == events(1, 2)
    assert len(outbox) == 2


def test_outbox_beyond_its_cap_drops_the_oldest_and_counts(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """A broker that is away for weeks does not fill the disk."""
    outbox = open_outbox(tmp_path / "outbox.db", max_events=3)

    put(outbox, *range(10))

    assert outbox.pending(10) == events(7, 8, 9)
    assert (len(outbox), outbox.dropped) == (3, 7)


def test_outbox_event_too_old_is_dropped_and_counted(
    tmp_path: Path, open_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    """Events that waited for too long are dropped, even if none is added; others stay."""
    outbox = open_outbox(tmp_path / "outbox.db", max_age_s=1.0)
    put(outbox, 1, 2)
    time.sleep(0.7)
    put(outbox, 3)

    time.sleep(0.5)

    assert outbox.pending(10) == events(3)
    assert (len(outbox), outbox.dropped) == (1, 2)
    assert "dropped the 2 oldest alerts: they wait for more than" in caplog.text


def test_outbox_event_ages_over_restarts_and_not_by_the_wall_clock(
    tmp_path: Path, open_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time counts in all runs together; a clock set forward by years makes nothing old."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path, max_age_s=1.5)
    put(outbox, 1)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    time.sleep(0.8)
    outbox.close()

    outbox = open_outbox(path, max_age_s=1.5)
    put(outbox, 2)
    before = outbox.pending(10)
    time.sleep(0.9)

    assert before == events(1, 2)
    assert outbox.pending(10) == events(2)


def test_outbox_file_at_its_cap_grows_no_further(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """The space of dropped and delivered events is used again, in the file and in its log."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path, max_events=50)

    def size() -> int:
        return sum(file.stat().st_size for file in tmp_path.glob("outbox.db*"))

    # Beyond the 1000 pages after which SQLite starts its log from the front.
    put(outbox, *range(400))
    full = size()
    put(outbox, *range(400, 700))
    outbox.remove(*(event(n).event_id for n in range(650, 700)))
    put(outbox, *range(700, 750))

    assert size() == full
    assert path.stat().st_size < 100_000
    assert len(outbox) == 50


def test_outbox_latest_of_a_topic_outlives_its_delivery_and_the_process(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """The last event of a topic is known after delivery, and after a restart."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, 1, 2)
    outbox.put("other", "other topic", b"other")

    outbox.remove(event(1).event_id, event(2).event_id, "other")
    before = [outbox.latest(topic) for topic in (TOPIC, "other topic", "unknown")]
    outbox.close()
    after = [open_outbox(path).latest(topic) for topic in (TOPIC, "other topic", "unknown")]

    assert before == after == [event(2).payload, b"other", None]


def test_outbox_latest_on_a_full_disk_is_known_and_written_later(
    small_disk: SmallDisk, open_outbox: Callable[..., Outbox]
) -> None:
    """The latest event counts even if it was delivered before it could be written."""
    path = small_disk.root / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, 1)
    small_disk.fill()
    put(outbox, *range(2, 60))
    outbox.remove(*(event(n).event_id for n in range(60)))

    while_full = (outbox.latest(TOPIC), bool(outbox.fault))
    small_disk.free()
    outbox.close()

    assert while_full == (event(59).payload, True)
    assert open_outbox(path).latest(TOPIC) == event(59).payload


def test_outbox_file_of_the_first_release_is_taken_over(
    tmp_path: Path, open_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    """A file without ages and notes keeps its events, and gets them from then on."""
    path = tmp_path / "outbox.db"
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(
            "CREATE TABLE event (position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, "
            "topic BLOB NOT NULL, payload BLOB NOT NULL, checksum INTEGER NOT NULL)"
        )
        for item in events(1, 2):
            fields = (item.event_id.encode(), item.topic.encode(), item.payload)
            text = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
            db.execute(
                "INSERT INTO event (id, topic, payload, checksum) VALUES (?, ?, ?, ?)",
                (*fields, zlib.crc32(text)),
            )

    outbox = open_outbox(path)
    put(outbox, 3)

    assert outbox.pending(10) == events(1, 2, 3)
    assert outbox.latest(TOPIC) == event(3).payload
    assert caplog.records == []
    assert list(tmp_path.glob("*.corrupt-*")) == []


def test_outbox_of_a_killed_process_has_all_it_confirmed(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """After SIGKILL at any moment, each event whose put returned is there."""
    path = tmp_path / "outbox.db"
    script = (
        "import sys, pathlib\n"
        "from edgeasd.publish.outbox.outbox import Outbox\n"
        "outbox = Outbox(pathlib.Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    outbox.put(str(n), 'topic', b'payload')\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    confirmed = [int(process.stdout.readline()) for _ in range(50)]

    process.send_signal(signal.SIGKILL)
    confirmed += [int(line) for line in process.stdout.read().splitlines()]
    process.wait()
    process.stdout.close()

    kept = [int(item.event_id) for item in open_outbox(path).pending(10**6)]
    assert kept[: len(confirmed)] == confirmed
    assert len(kept) - len(confirmed) in {0, 1}


def test_outbox_file_is_flushed_at_each_commit(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """A power cut loses no event that was put: SQLite writes ahead and flushes fully."""
    outbox = open_outbox(tmp_path / "outbox.db")
    assert outbox._file is not None

    settings = [
        outbox._file._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    ]

    assert settings == [b"wal", 2]


def test_outbox_used_by_many_threads_loses_and_doubles_nothing(
    tmp_path: Path, open_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    """Machines put events while the publisher takes them; each comes out once."""
    outbox = open_outbox(tmp_path / "outbox.db")
    n_threads, n_each = 4, 50
    writers = [
        threading.Thread(target=put, args=(outbox, *range(n_each * i, n_each * (i + 1))))
        for i in range(n_threads)
    ]
    taken: list[QueuedEvent] = []

    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers) or len(outbox):
        batch = outbox.pending(7)
        taken += batch
        outbox.remove(*(item.event_id for item in batch))

    assert sorted(taken, key=lambda item: item.event_id) == events(*range(n_threads * n_each))
    assert caplog.records == []


def test_outbox_on_a_full_disk_keeps_events_in_memory_until_it_is_free(
    small_disk: SmallDisk, open_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk raises nothing and loses nothing; it is reported once, and overcome."""
    path = small_disk.root / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, 1, 2)
    small_disk.fill()

    put(outbox, *range(3, 60))
    fault_while_full = outbox.fault
    pending_while_full = outbox.pending(100)
    n_stored = len(sqlite_ids(path))
    small_disk.free()
    put(outbox, 60)

    assert "database or disk is full; alerts wait in memory" in fault_while_full
    assert n_stored < 59
    assert pending_while_full == events(*range(1, 60))
    assert (outbox.fault, outbox.dropped, len(outbox)) == ("", 0, 60)
    outbox.close()
    assert open_outbox(path).pending(100) == events(*range(1, 61))
    assert [record.levelno for record in caplog.records if "full" in record.message] == [
        logging.ERROR
    ]


def sqlite_ids(path: Path) -> list[bytes]:
    """The events that another process would find in the file."""
    db = sqlite3.connect(path)
    try:
        return [row[0] for row in db.execute("SELECT id FROM event")]
    finally:
        db.close()


def test_outbox_on_a_full_disk_does_not_repeat_what_was_acknowledged(
    small_disk: SmallDisk, open_outbox: Callable[..., Outbox]
) -> None:
    """An acknowledgement counts even if it cannot be written yet."""
    path = small_disk.root / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, *range(1, 4))
    small_disk.fill()
    put(outbox, *range(4, 60))

    outbox.remove(event(1).event_id, event(59).event_id)

    assert outbox.fault != ""
    assert outbox.pending(100) == events(*range(2, 59))
    assert len(outbox) == 57
    small_disk.free()
    outbox.recover()
    assert outbox.fault == ""
    assert len(sqlite_ids(path)) == 57


def test_outbox_created_on_a_full_disk_starts_all_the_same(
    small_disk: SmallDisk, open_outbox: Callable[..., Outbox]
) -> None:
    """The daemon starts on a full disk, and stores its events when there is room."""
    small_disk.fill()
    outbox = open_outbox(small_disk.root / "outbox.db")
    put(outbox, 1)

    before = (outbox.pending(10), bool(outbox.fault))
    small_disk.free()
    outbox.recover()

    assert before == (events(1), True)
    assert outbox.fault == ""
    assert sqlite_ids(small_disk.root / "outbox.db") == [event(1).event_id.encode()]


def test_outbox_on_a_disk_full_for_long_keeps_the_newest_in_memory(
    small_disk: SmallDisk, open_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded too; the oldest that it holds go first, and are counted."""
    monkeypatch.setattr(outbox_module, "MAX_HELD", 3)
    small_disk.fill()
    outbox = open_outbox(small_disk.root / "outbox.db")

    put(outbox, *range(10))

    assert outbox.pending(10) == events(7, 8, 9)
    assert (len(outbox), outbox.dropped) == (3, 7)


def test_outbox_on_a_disk_that_turns_read_only_recovers(
    small_disk: SmallDisk, open_outbox: Callable[..., Outbox]
) -> None:
    """A file system remounted read-only: new events wait in memory, and nothing is lost."""
    outbox = open_outbox(small_disk.root / "outbox.db")
    put(outbox, 1, 2)
    # A file open for writing would forbid the remount: the outbox opens its file again.
    outbox.close()
    small_disk.remount("ro")

    put(outbox, 3)

    assert outbox.pending(10)[-1:] == events(3)
    assert "alerts wait in memory" in outbox.fault
    small_disk.remount("rw")
    outbox.recover()
    assert (outbox.pending(10), outbox.fault) == (events(1, 2, 3), "")


def test_outbox_whose_file_is_deleted_writes_a_new_one(
    tmp_path: Path, open_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    """Events are not written to a file that was deleted."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, 1, 2)
    outbox.remove(event(1).event_id)
    for file in tmp_path.glob("outbox.db*"):
        file.unlink()

    put(outbox, 3)

    assert (outbox.pending(10), outbox.fault) == (events(2, 3), "")
    assert outbox.latest(TOPIC) == event(3).payload
    assert sqlite_ids(path) == [item.event_id.encode() for item in events(2, 3)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_outbox_mounted_over_goes_on_where_the_disk_is(
    small_disk: SmallDisk, open_outbox: Callable[..., Outbox]
) -> None:
    """A new disk gets the events of the one before; there is a fault until it can be written."""
    outbox = open_outbox(small_disk.root / "outbox.db")
    put(outbox, 1, 2)
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,ro", "tmpfs", str(small_disk.root)]
    subprocess.run(mount, check=True)

    put(outbox, 3)
    while_read_only = (outbox.pending(10), bool(outbox.fault))
    small_disk.remount("rw")
    put(outbox, 4)

    assert while_read_only == (events(1, 2, 3), True)
    assert (outbox.pending(10), outbox.fault) == (events(1, 2, 3, 4), "")
    outbox.close()
    assert sqlite_ids(small_disk.root / "outbox.db") == [
        item.event_id.encode() for item in events(1, 2, 3, 4)
    ]
    subprocess.run(["umount", "-l", small_disk.root], check=True)


def test_outbox_in_a_directory_that_cannot_be_made_raises(tmp_path: Path) -> None:
    """The message names the directory and what to do."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageError) as caught:
        Outbox(tmp_path / "file" / "state" / "outbox.db")

    assert str(caught.value) == (
        f"state_dir={tmp_path}/file/state must be a directory that the user who runs edgeasd "
        "can write (Not a directory); create it or choose another"
    )


def test_outbox_in_a_read_only_directory_raises(small_disk: SmallDisk) -> None:
    """The daemon does not start with a directory that it can never write."""
    small_disk.remount("ro")

    with pytest.raises(StorageError) as caught:
        Outbox(small_disk.root / "outbox.db")

    assert str(caught.value) == (
        f"state_dir={small_disk.root} must be a directory that the user who runs edgeasd can "
        "write; change its owner or choose another"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write every directory")
def test_outbox_in_a_directory_of_someone_else_raises(tmp_path: Path) -> None:
    """A directory without the permission to write is refused at the start."""
    tmp_path.chmod(0o500)

    with pytest.raises(StorageError, match="change its owner or choose another"):
        Outbox(tmp_path / "outbox.db")


def test_outbox_whose_file_is_a_directory_raises(tmp_path: Path) -> None:
    """Something else in the place of the file is not touched."""
    (tmp_path / "outbox.db").mkdir()

    with pytest.raises(StorageError, match="must be a file that can be written"):
        Outbox(tmp_path / "outbox.db")


def filled(path: Path, n_events: int) -> bytes:
    """Make an outbox at *path* and return the bytes of its file."""
    outbox = Outbox(path)
    put(outbox, *range(n_events))
    outbox.close()
    return path.read_bytes()


def test_outbox_that_is_no_database_is_moved_aside(
    tmp_path: Path, open_outbox: Callable[..., Outbox], caplog: pytest.LogCaptureFixture
) -> None:
    """A new file is started, the old ones are kept under numbered names, and it is logged."""
    path = tmp_path / "outbox.db"
    for n in (1, 2):
        path.write_bytes(b"no database" * 1000)

        outbox = open_outbox(path)
        put(outbox, n)
        outbox.close()

    assert (tmp_path / "outbox.db.corrupt-1").read_bytes() == b"no database" * 1000
    assert (tmp_path / "outbox.db.corrupt-2").read_bytes() == b"no database" * 1000
    assert open_outbox(path).pending(10) == events(2)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_outbox_that_was_truncated_starts_anew(
    tmp_path: Path, open_outbox: Callable[..., Outbox], kept: float
) -> None:
    """Whatever is left, the outbox works, and returns no event that was not put."""
    path = tmp_path / "outbox.db"
    content = filled(path, 100)
    path.write_bytes(content[: int(kept * len(content))])

    outbox = open_outbox(path)
    put(outbox, 1000)

    assert set(outbox.pending(1000)) <= set(events(*range(100), 1000))
    assert outbox.pending(1000)[-1:] == events(1000)
    assert outbox.fault == ""
    assert (tmp_path / "outbox.db.corrupt-1").exists()


def test_outbox_with_a_flipped_bit_never_gives_a_wrong_event(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """For 60 single flipped bits: the outbox works, and nothing comes out changed."""
    content = filled(tmp_path / "whole.db", 40)
    bits = random.Random(1).sample(range(8 * len(content)), 60)
    right = set(events(*range(40), 1000))
    n_saved = []

    for bit in bits:
        path = tmp_path / f"{bit}.db"
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        outbox = open_outbox(path)
        put(outbox, 1000)
        pending = outbox.pending(1000)
        n_saved.append(len(pending) - 1)
        outbox.remove(*(item.event_id for item in pending))

        assert outbox.latest(TOPIC) == event(1000).payload
        assert set(pending) <= right
        assert len(set(pending)) == len(pending)
        assert pending[-1] == event(1000)
        assert (len(outbox), outbox.fault) == (0, "")
        outbox.close()

    # Most bits belong to one event; the others can still be read.
    assert sum(n >= 39 for n in n_saved) > 0.9 * len(n_saved)


def test_outbox_damaged_while_in_use_saves_what_is_right(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """One event that changed on disk is lost; the others and all that follow are delivered."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, 1, 2, 3)
    db = sqlite3.connect(path)
    db.execute("UPDATE event SET topic = x'23' WHERE position = 2")
    db.commit()
    db.close()

    pending = outbox.pending(10)
    put(outbox, 4)

    assert pending == events(1, 3)
    assert outbox.pending(10) == events(1, 3, 4)
    assert outbox.latest(TOPIC) == event(4).payload
    outbox.close()
    assert open_outbox(path).pending(10) == events(1, 3, 4)


def test_outbox_damaged_before_it_noted_an_acknowledgement_does_not_repeat_the_event(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """Events saved from a damaged file are those that still wait, not acknowledged ones."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path)
    put(outbox, 1, 2, 3)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE event SET payload = x'00' WHERE position = 2")
    other.execute("BEGIN IMMEDIATE")

    outbox.remove(event(1).event_id)
    fault = outbox.fault
    pending = outbox.pending(10)
    other.execute("ROLLBACK")
    other.close()

    assert "database is locked" in fault
    assert pending == events(3)
    assert outbox.pending(10) == events(3)


def test_outbox_locked_by_another_process_keeps_events_in_memory(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """A backup tool that locks the file delays writing, and nothing else."""
    path = tmp_path / "outbox.db"
    outbox = open_outbox(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    put(outbox, 1)
    fault_while_locked, pending_while_locked = outbox.fault, outbox.pending(10)
    other.execute("ROLLBACK")
    other.close()
    outbox.recover()

    assert "database is locked" in fault_while_locked
    assert pending_while_locked == events(1)
    assert (outbox.fault, sqlite_ids(path)) == ("", [event(1).event_id.encode()])


def test_outbox_latest_is_the_last_event_of_each_topic_also_after_a_restart(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """Delivered or not, the last event of each topic is known to the next run."""
    outbox = open_outbox(tmp_path / "outbox.sqlite3")
    outbox.put("a", "m1/event", b"start")
    outbox.put("b", "m2/event", b"start")
    outbox.put("c", "m1/event", b"end")
    outbox.remove("a", "b", "c")
    outbox.close()

    outbox = open_outbox(tmp_path / "outbox.sqlite3")

    assert {topic: outbox.latest(topic) for topic in outbox.topics()} == {
        "m1/event": b"end",
        "m2/event": b"start",
    }
    assert outbox.latest("m3/event") is None


def test_outbox_damaged_keeps_what_was_last_said(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """A file that is set aside hands on the last event of each topic."""
    path = tmp_path / "outbox.sqlite3"
    outbox = open_outbox(path)
    outbox.put("a", "m1/event", b"start")
    outbox.remove("a")
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO event (id, topic, payload, checksum) VALUES (x'00', x'00', x'00', 1)"
        )

    open_outbox(path).pending(1)

    assert open_outbox(path).latest("m1/event") == b"start"


def test_outbox_gives_the_oldest_event_of_each_topic(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """Events of one topic come in their order, and no others; a topic without any has none."""
    outbox = open_outbox(tmp_path / "outbox.db")
    none = outbox.heads()
    for event_id, topic in (("1", "b"), ("2", "a"), ("3", "b"), ("4", "c"), ("5", "a")):
        outbox.put(event_id, topic, b"")

    first = [head.event_id for head in outbox.heads()]
    outbox.remove("1", "4")
    then = [head.event_id for head in outbox.heads()]

    assert none == []
    assert (first, then) == (["1", "2", "4"], ["2", "3"])
    assert [event.event_id for event in outbox.pending(10, "a")] == ["2", "5"]
    assert [event.event_id for event in outbox.pending(1, "a")] == ["2"]


def test_outbox_whose_disk_is_read_only_gives_the_oldest_that_was_not_acknowledged(
    tmp_path: Path, open_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events on disk that cannot be deleted, and those in memory, both count."""
    outbox = open_outbox(tmp_path / "outbox.db")
    for event_id, topic in (("1", "a"), ("2", "a"), ("3", "b")):
        outbox.put(event_id, topic, b"")

    def full(*_args: Any) -> None:
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(EventFile, "delete", full)
    outbox.remove("1", "3")
    outbox.put("4", "c", b"")
    outbox.put("5", "b", b"")

    assert [head.event_id for head in outbox.heads()] == ["2", "5", "4"]
    assert [event.event_id for event in outbox.pending(10, "b")] == ["5"]


def test_outbox_event_given_up_is_counted_as_dropped(
    tmp_path: Path, open_outbox: Callable[..., Outbox]
) -> None:
    """It is gone, and counted and logged."""
    outbox = open_outbox(tmp_path / "outbox.db")
    put(outbox, 1, 2, 3)

    outbox.give_up([event(1).event_id, event(2).event_id], "a reason")

    assert (outbox.pending(10), outbox.dropped) == (events(3), 2)
