"""Who else goes by the node's name, from what a check hears of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeasd.cli.check.others import look_for_others
from edgeasd.cli.check.report import run_check
from edgeasd.common.config.keys import Config
from edgeasd.publish.delivery.retained_notes import FILE_NAME, RetainedNotes
from edgeasd.publish.mqtt.inbound import Received
from edgeasd.publish.topics import Topics

ONLINE = Received("edgeasd/v1/n1/availability", b"online", retain=True)
OFFLINE = Received("edgeasd/v1/n1/availability", b"offline", retain=True)
ANOTHER = "another client has the name n1; give each node its own"
WELL = "no other client named n1 was heard"


def health(run: str, fault: str = "") -> Received:
    """Return a health message."""
    payload = json.dumps({"boot_id": run, "mqtt": {"fault": fault}}).encode()
    return Received("edgeasd/v1/n1/health", payload, retain=True)


@pytest.mark.parametrize(
    ("heard", "grade", "text"),
    [
        ([], "ok", WELL),
        ([ONLINE], "ok", WELL),
        ([ONLINE, health("0a")], "ok", WELL),
        ([health("0a"), ONLINE, health("0a")], "ok", WELL),
        ([OFFLINE, health("ff")], "ok", WELL),
        ([ONLINE, health("ff")], "failure", ANOTHER),
        ([health("ff"), OFFLINE, ONLINE], "failure", ANOTHER),
        ([health("0a"), health("ff")], "failure", ANOTHER),
        ([ONLINE, health("0a", f"{ANOTHER}; x")], "failure", ANOTHER),
        ([ONLINE, health("0a", "x")], "warning", "the running daemon reports: x"),
        ([Received("edgeasd/v1/n1/health", b"\xff", retain=True)], "ok", WELL),
        ([Received("edgeasd/v1/n1/health", b'{"mqtt": 7}', retain=True)], "ok", WELL),
        ([Received("edgeasd/v1/n2/health", b"{}", retain=True), health("0a")], "ok", WELL),
    ],
)
def test_others_are_told_by_what_is_heard(
    tmp_path: Path, heard: list[Received], grade: str, text: str
) -> None:
    """A daemon of this computer is no other, and one that is over is none."""
    notes = RetainedNotes(tmp_path / FILE_NAME)
    notes.begin("0a")
    notes.note("broker", [Topics("", "n1").health])

    report = run_check("node", lambda: look_for_others(Config((), "n1", tmp_path), heard))

    assert (report.grade, report.text) == (grade, text)


def test_others_before_the_first_start_are_doubted(tmp_path: Path) -> None:
    """Where no daemon ran yet, one of the name that is online is that of another computer."""
    report = run_check(
        "node", lambda: look_for_others(Config((), "n1", tmp_path), [ONLINE, health("ff")])
    )

    assert report.grade == "warning"
    assert report.text.startswith("a client named n1 is online, but no daemon has run here yet")
