"""From messages to the picture of a plant, without a broker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.plant import Plant, local_time

NOW_S = 1_795_364_134.0
FAN = "edgeasd/v1/edge-01/fan"


def hear(plant: Plant, topic: str, now_s: float = NOW_S, **said: Any) -> str | None:
    """Have *plant* hear a message of JSON."""
    return plant.hear(topic, json.dumps(said).encode(), now_s)


def picture(plant: Plant, now_s: float = NOW_S) -> list[str]:
    """The lines of the picture."""
    return [line.text for line in plant.picture(now_s, ascii_only=True)]


def running_plant(prefix: str = "") -> Plant:
    """A plant of one node with one machine that is well."""
    plant = Plant()
    fan = f"{prefix}{FAN}"
    plant.hear(f"{prefix}edgeasd/v1/edge-01/availability", b"online", NOW_S)
    hear(plant, f"{prefix}edgeasd/v1/edge-01/health", time_ms=1000 * NOW_S, uptime_s=7_260)
    hear(plant, f"{fan}/state", state="ok", reason="", since_ms=0, threshold=2.0)
    for score in (0.0, 1.0, 2.0, 4.0):
        hear(plant, f"{fan}/score", max=score, threshold=2.0)
    return plant


def test_picture_shows_state_score_threshold_and_line() -> None:
    """A machine that is well has its last score, threshold, running line and age."""
    lines = picture(running_plant(), NOW_S + 0.5)

    assert lines[0] == "1 nodes, 0 dead; 1 machines: 1 ok"
    assert lines[2] == "edge-01              online, last sign of life 0.5 s ago, up 2 h 1 min"
    assert lines[3].split() == ["fan", "ok", "4.00", "/", "2.00", "_=#@", "0.5", "s", "ago"]
    assert lines[5] == "no event yet"


def test_picture_of_a_base_puts_it_before_the_node() -> None:
    """Nodes of the same name in two halls are two."""
    plant = running_plant("acme/hall1/")
    plant.hear("acme/hall2/edgeasd/v1/edge-01/availability", b"offline", NOW_S)

    assert list(plant.nodes) == ["acme/hall1/edge-01", "acme/hall2/edge-01"]


def test_picture_of_a_node_after_its_last_will_is_dead() -> None:
    """What a dead node said last is shown as the past."""
    plant = running_plant()

    news = plant.hear("edgeasd/v1/edge-01/availability", b"offline", NOW_S)

    assert news == f"{local_time(NOW_S)} edge-01 offline"
    lines = picture(plant)
    assert lines[0] == "1 nodes, 1 dead; 1 machines: 1 gone"
    assert lines[2] == "edge-01              OFFLINE, last sign of life 0.0 s ago"
    assert lines[3] == "  fan                gone      it was ok"


def test_picture_of_a_node_long_silent_is_dead_whatever_the_broker_holds() -> None:
    """A retained ``online`` that outlived its node, as when the broker restarts, fools nobody."""
    lines = picture(running_plant(), NOW_S + 600)

    assert lines[2] == "edge-01              SILENT, last sign of life 10 min ago"
    assert lines[3] == "  fan                gone      it was ok"


def test_picture_shows_those_in_trouble_first() -> None:
    """However many machines are well, the one in alarm is not below the edge of the terminal."""
    plant = running_plant()
    hear(plant, "edgeasd/v1/zzz/press/state", state="alarm", reason="", since_ms=1000 * NOW_S)
    hear(plant, "edgeasd/v1/zzz/health", time_ms=1000 * NOW_S)

    lines = picture(plant)

    assert lines[2].startswith("zzz ")
    assert f"since {local_time(NOW_S)}" in lines[3]
    assert lines[4].startswith("edge-01 ")


def test_news_are_events_and_changes_only() -> None:
    """A state said again, scores and health are no news; an event is, each time."""
    plant = running_plant()
    event: dict[str, Any] = {"type": "end", "time_ms": 1000 * NOW_S, "score": 0.5, "threshold": 2.0}

    again = hear(plant, f"{FAN}/state", state="ok", reason="", since_ms=0, threshold=2.0)
    changed = hear(plant, f"{FAN}/state", state="no_audio", reason="it was unplugged")
    told = hear(plant, f"{FAN}/event", **event, duration_s=11.2)

    at = local_time(NOW_S)
    assert again is None
    assert changed == f"{at} edge-01/fan no_audio: it was unplugged"
    assert told == f"{at} edge-01/fan alarm end, score 0.50, threshold 2.00, after 11 s"
    assert picture(plant)[-2:] == ["last events", told]


@pytest.mark.parametrize(
    "topic", ["", "x", "edgeasd/v1", "edgeasd/v1/n", "edgeasd/v1/n/m/x", "edgeasd/v1/n/check"]
)
def test_topics_of_others_are_passed_over(topic: str) -> None:
    """What is not ours below the base changes nothing."""
    plant = Plant()

    assert plant.hear(topic, b"{}", NOW_S) is None
    assert plant.nodes == {}


def test_warning_of_a_health_message_is_news_once_and_stays_below_the_machine() -> None:
    """What is wrong with a calibration is read by people, remedy and all, also in 80 columns."""
    plant = running_plant()
    warning = "alarms come far more often than calibration foresaw:" + " x" * 30
    machines = [{"name": "fan", "model_fault": "", "calibration": {"warning": warning}}]

    news = hear(plant, "edgeasd/v1/edge-01/health", time_ms=1000 * NOW_S, machines=machines)
    again = hear(plant, "edgeasd/v1/edge-01/health", time_ms=1000 * NOW_S, machines=machines)

    assert news == f"{local_time(NOW_S)} edge-01/fan warning: {warning}"
    assert again is None
    lines = picture(plant)
    assert lines[4].startswith("    alarms come far more often")
    assert lines[5].startswith("    x x")
    assert max(map(len, lines[4:])) < 80
    hear(plant, "edgeasd/v1/edge-01/health", time_ms=1000 * NOW_S, machines=[{"name": "fan"}])
    assert picture(plant)[4] == ""


LEAVES = ("availability", "health", "m/state", "m/score", "m/event")
KEYS = st.sampled_from(
    ["state", "reason", "score", "max", "threshold", "time_ms", "since_ms", "mqtt", "uptime_s"]
)
PARTS = st.fixed_dictionaries(
    {"name": st.text(max_size=5)},
    optional={
        "model_fault": st.text(max_size=5) | st.none(),
        "calibration": st.none() | st.fixed_dictionaries({"warning": st.text() | st.integers()}),
    },
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
HEALTHS = st.fixed_dictionaries({"machines": st.lists(PARTS | VALUES, max_size=2) | VALUES})
PAYLOADS = st.binary(max_size=20) | (st.dictionaries(KEYS, VALUES) | HEALTHS).map(
    lambda said: json.dumps(said).encode()
)


@given(st.lists(st.tuples(st.sampled_from(LEAVES), PAYLOADS), max_size=6))
def test_picture_of_whatever_came_can_be_drawn(messages: list[tuple[str, bytes]]) -> None:
    """Nothing that somebody publishes there breaks the view, or steers the terminal."""
    plant = Plant()
    for leaf, payload in messages:
        plant.hear(f"edgeasd/v1/n/{leaf}", payload, NOW_S)

    for line in picture(plant):
        assert line.isprintable()
