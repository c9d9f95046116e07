"""How long an alarm lasts that an earlier run of the daemon told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from edgeasd.common.clock import Moment, moment
from edgeasd.common.config.keys import Config
from edgeasd.publish.outbox.outbox import Outbox
from edgeasd.service.node import LastEvent, Node, put_event

START: dict[str, Any] = {
    "id": "n1-0",
    "type": "start",
    "node": "n1",
    "time_ms": 0,
    "duration_s": 7.0,
}
HERE = moment()


@pytest.mark.parametrize(
    ("kind", "told", "counts"),
    [
        ("start", Moment(HERE.boot, HERE.at_s - 100.0), True),
        ("update", HERE, True),
        ("start", Moment("another boot", HERE.at_s - 100.0), False),
        ("start", Moment("", HERE.at_s - 100.0), False),
        ("start", None, False),
    ],
)
def test_alarm_lasts_for_what_was_heard_and_what_is_known_to_have_passed(
    kind: str, told: Moment | None, *, counts: bool
) -> None:
    """Time of the same boot counts, whoever sets the wall clock; of another one, none does."""
    last = LastEvent.read(LastEvent({**START, "type": kind}, told).write())
    before, raised_s, after = moment(), last.raised_s, moment()

    assert last.payload == {**START, "type": kind}
    assert raised_s is not None
    if counts and told is not None:
        assert before.at_s - told.at_s <= raised_s - START["duration_s"] <= after.at_s - told.at_s
    else:
        assert raised_s == START["duration_s"]


def test_alarm_that_has_ended_lasts_no_longer() -> None:
    """Nothing is raised then, whenever that was."""
    assert LastEvent({**START, "type": "end"}, HERE).raised_s is None


def test_note_of_an_earlier_version_is_the_payload_alone(tmp_path: Path) -> None:
    """An outbox that is older than this way of noting gives what was heard."""
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    outbox.put("n1-0", "topic", json.dumps(START).encode())

    last = LastEvent.read(outbox.latest("topic") or b"")
    outbox.close()

    assert (last.payload, last.told, last.raised_s) == (START, None, 7.0)


@pytest.mark.parametrize("years", [-56.0, -1.0, 27.0])
def test_alarm_of_a_machine_that_is_gone_ends_with_a_true_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: float
) -> None:
    """Though the clock was set between its start and its end, by a run that follows."""
    site = Config((), node="n1", state_dir=tmp_path / "state")
    node = Node(site)
    put_event(node.outbox, node.topics.event("m1"), START)
    node.outbox.close()
    now_s = max(0.0, time.time() + years * 365.25 * 86_400)
    monkeypatch.setattr(time, "time", lambda: now_s)

    node = Node(site)
    node.forget("m1")

    _, end = (json.loads(event.payload) for event in node.outbox.pending(9))
    node.outbox.close()
    assert (end["type"], end["time_ms"]) == ("end", round(1000 * now_s))
    assert 7.0 <= end["duration_s"] < 100.0
    assert set(end) == {*START, "time", "clock_synced", "boot_id", "seq", "clip"}
