"""Topics are noted until they are cleared, whatever happens to the file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgeasd.publish.delivery.retained_notes import RetainedNotes
from edgeasd.publish.topics import Topics, topics_of_retained

PLACES = [Topics("", "pc-1"), Topics("hall/2", "pc-1"), Topics("edgeasd/v1", "v1")]


@pytest.mark.parametrize("place", PLACES)
def test_retained_topics_are_known_by_their_shape(place: Topics) -> None:
    """Availability, health and state topics have a node; topics of other messages have none."""
    retained = [place.availability, place.health, place.state("state"), place.state("health")]
    others = [place.check, place.event("m"), place.score("m"), place.availability + "/x"]

    assert [topics_of_retained(topic) for topic in retained] == [place] * len(retained)
    assert [topics_of_retained(topic) for topic in others] == [None] * len(others)


@pytest.mark.parametrize(
    "topic",
    [
        *("", "/", "health", "edgeasd/v1/health", "edgeasd/v1/state", "edgeasd/v1//health"),
        *("edgeasd/v2/n/health", "edgeasd/v1/+/health", "edgeasd/v1/#/health", "#", "+/+/+/+"),
        *("edgeasd/v1/n/+/state", "edgeasd/v1/n/a b/state", "edgeasd/v1/n/\0/state"),
        *("$SYS/edgeasd/v1/n/health", "/edgeasd/v1/n/health", "a b/edgeasd/v1/n/health"),
        *("a//edgeasd/v1/n/health", "+/edgeasd/v1/n/health", f"edgeasd/v1/{'n' * 65}/health"),
    ],
)
def test_retained_topic_that_is_none_is_no_topic_to_clear(topic: str) -> None:
    """A topic that would end the connection, or is not one of ours, is not accepted."""
    assert topics_of_retained(topic) is None


def test_retained_notes_outlive_the_run_until_struck_out(tmp_path: Path) -> None:
    """Topics are kept by broker, and runs in their order."""
    notes = RetainedNotes(tmp_path / "notes")
    notes.begin("0a")
    notes.note("one", [PLACES[0].health, PLACES[0].state("m")])
    notes.note("two", [PLACES[1].health])
    notes.strike("one", [PLACES[0].health, "not/noted"])
    notes.strike("two", [PLACES[0].state("m")])

    again = RetainedNotes(tmp_path / "notes")
    again.begin("0b")

    assert again.topics("one") == [PLACES[0].state("m")]
    assert again.topics("two") == [PLACES[1].health]
    assert again.hosts() == ["one", "two"]
    assert list(again.runs) == ["0a", "0b"]


def test_retained_notes_end_with_the_broker_last_used(tmp_path: Path) -> None:
    """A topic that is noted again counts as used again."""
    notes = RetainedNotes(tmp_path / "notes")
    for host in ("one", "two", "one"):
        notes.note(host, [PLACES[0].health])

    assert RetainedNotes(tmp_path / "notes").hosts() == ["two", "one"]


@pytest.mark.parametrize("seed", range(20))
def test_retained_notes_that_a_disk_spoiled_hold_topics_only(tmp_path: Path, seed: int) -> None:
    """However the file is damaged, each topic read can be published on; others are skipped."""
    path = tmp_path / "notes"
    notes = RetainedNotes(path)
    notes.begin("0a")
    topics = [place.state(f"m{n}") for place in PLACES for n in range(20)]
    notes.note("broker", topics)
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    for _ in range(40):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(content[: chance.randrange(len(content))])

    read = RetainedNotes(path)

    for host in read.hosts():
        assert all(topics_of_retained(topic) is not None for topic in read.topics(host))
    read.note("broker", topics)
    assert set(RetainedNotes(path).topics("broker")) >= set(topics)


def test_retained_notes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many, the oldest are forgotten."""
    monkeypatch.setattr("edgeasd.publish.delivery.retained_notes._MAX_TOPICS", 3)
    monkeypatch.setattr("edgeasd.publish.delivery.retained_notes._MAX_RUNS", 2)
    notes = RetainedNotes(tmp_path / "notes")
    for number in range(5):
        notes.begin(f"{number}")
        notes.note("broker", [PLACES[0].state(f"m{number}")])

    again = RetainedNotes(tmp_path / "notes")

    assert again.topics("broker") == [PLACES[0].state(f"m{number}") for number in (2, 3, 4)]
    assert list(again.runs) == ["3", "4"]


def test_retained_notes_that_cannot_be_written_hold_for_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and the notes are still known."""
    notes = RetainedNotes(tmp_path / "gone" / "notes")

    for machine in ("m1", "m2"):
        notes.note("broker", [PLACES[0].state(machine)])

    assert notes.topics("broker") == [PLACES[0].state("m1"), PLACES[0].state("m2")]
    assert len(caplog.records) == 1
    assert "cannot be written (No such file or directory)" in caplog.text
