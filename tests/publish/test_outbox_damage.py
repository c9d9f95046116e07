"""However the outbox's files are damaged, alerts go on, and none comes out changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.publish.outbox.event_file import QueuedEvent
from edgeasd.publish.outbox.outbox import Outbox
from tests.mutation import fewer_examples, spoiled

pytestmark = pytest.mark.fuzz

N_STORED = 40


def event(n: int) -> QueuedEvent:
    """Event number *n*, of one of three machines."""
    return QueuedEvent(f"edge-{n:06d}", f"edgeasd/v1/edge/m{n % 3}/event", b"%06d" % n * 60)


def put(outbox: Outbox, *numbers: int) -> None:
    """Put the events of these numbers."""
    for n in numbers:
        outbox.put(event(n).event_id, event(n).topic, event(n).payload)


def files_of(path: Path) -> dict[str, bytes]:
    """Return the contents of the database and of SQLite's files beside it."""
    return {each.name: each.read_bytes() for each in path.parent.glob(f"{path.name}*")}


def written_files() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of an outbox that was closed, and of one whose process was killed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outbox.sqlite3"
        outbox = Outbox(path)
        put(outbox, *range(N_STORED // 2))
        outbox.close()
        outbox = Outbox(path)
        put(outbox, *range(N_STORED // 2, N_STORED))
        killed = files_of(path)
        outbox.close()
        return files_of(path), killed


CLOSED, KILLED = written_files()


@st.composite
def damaged_files(draw: st.DrawFn) -> dict[str, bytes]:
    """Draw an outbox's files with one of them damaged or missing."""
    files = dict(draw(st.sampled_from([CLOSED, KILLED])))
    name = draw(st.sampled_from(sorted(files)))
    if draw(st.integers(0, 9)) == 0:
        del files[name]
    else:
        files[name] = draw(spoiled(files[name]))
    return files


def test_outbox_of_a_killed_process_has_a_log() -> None:
    """The files that these tests damage are a database alone, and one with its log."""
    assert set(CLOSED) == {"outbox.sqlite3"}
    assert set(KILLED) == {"outbox.sqlite3", "outbox.sqlite3-wal", "outbox.sqlite3-shm"}
    assert len(KILLED["outbox.sqlite3-wal"]) > 4096


@fewer_examples(4)
@given(damaged_files())
def test_outbox_of_any_damaged_files_goes_on(files: dict[str, bytes]) -> None:
    """An outbox with damaged files returns old events unchanged, and takes and keeps new ones."""
    right = {event(n) for n in (*range(N_STORED), 1000, 1001)}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        path = Path(folder) / "outbox.sqlite3"

        outbox = Outbox(path)
        put(outbox, 1000)
        pending = outbox.pending(1000)
        outbox.remove(*(each.event_id for each in pending))
        left = len(outbox), outbox.fault
        put(outbox, 1001)
        outbox.close()
        outbox = Outbox(path)
        after = outbox.pending(1000)
        outbox.close()

    assert set(pending) <= right
    assert len(set(pending)) == len(pending)
    assert pending[-1] == event(1000)
    assert left == (0, "")
    assert after == [event(1001)]
