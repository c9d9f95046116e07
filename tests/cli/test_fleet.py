"""From messages to the picture of a fleet, without a broker."""

from __future__ import annotations

import io
import json
import math
import timeit
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group
from rich.text import Text

from edgeasd.cli.watch.fleet import Fleet, local_time
from edgeasd.cli.watch.picture import picture, sparkline
from edgeasd.publish.mqtt.inbound import Received

TIME_S = 1_795_364_134.0
NOW_S = 5_000.0
"""Seconds of a monotonic clock."""
NODE = "edgeasd/v1/edge-01"
FAN = f"{NODE}/fan"
AT = local_time(TIME_S)


def new_fleet() -> Fleet:
    """A fleet of which all messages come from now on."""
    fleet = Fleet()
    fleet.listening_since_s = NOW_S
    return fleet


def hear(fleet: Fleet, topic: str, payload: bytes, *, retain: bool = False) -> list[str]:
    """Have *fleet* hear a message."""
    return fleet.hear(Received(topic, payload, retain), NOW_S, TIME_S)


def hear_json(fleet: Fleet, topic: str, *, retain: bool = False, **said: Any) -> list[str]:
    """Have *fleet* hear a message of JSON."""
    return hear(fleet, topic, json.dumps(said).encode(), retain=retain)


def shown(fleet: Fleet, now_s: float = NOW_S, width: int = 110) -> list[str]:
    """The lines of the picture."""
    return [line.plain for line in picture(fleet, now_s, 40, width, ascii_only=True)]


def running_fleet(prefix: str = "") -> Fleet:
    """A fleet of one node with one machine that is well."""
    fleet = new_fleet()
    fan = f"{prefix}{FAN}"
    hear(fleet, f"{prefix}{NODE}/availability", b"online")
    hear_json(fleet, f"{prefix}{NODE}/health", time_ms=1000 * TIME_S, uptime_s=7_260)
    hear_json(fleet, f"{fan}/state", state="ok", reason="", since_ms=0, threshold=2.0)
    for score in (0.0, 1.0, 2.0, 4.0):
        hear_json(fleet, f"{fan}/score", max=score, threshold=2.0)
    return fleet


def test_picture_shows_state_score_threshold_and_line() -> None:
    """A machine that is well has its last score, threshold, running line and age."""
    lines = shown(running_fleet(), NOW_S + 0.5)

    assert lines[0] == "1 nodes, 0 dead; 1 machines: 1 ok"
    assert lines[2] == "edge-01              online, last sign of life 0.5 s ago, up 2 h 1 min"
    assert lines[3].split() == ["fan", "ok", "4.00", "/", "2.00", "_=#@", "0.5", "s", "ago"]
    assert lines[5] == "no event yet"


def test_picture_of_a_base_puts_it_before_the_node() -> None:
    """Nodes of the same name in two halls are two."""
    fleet = running_fleet("acme/hall1/")
    hear(fleet, f"acme/hall2/{NODE}/availability", b"offline")

    assert list(fleet.nodes) == ["acme/hall1/edge-01", "acme/hall2/edge-01"]


def test_picture_of_a_node_after_its_last_will_is_dead() -> None:
    """What a dead node said last is shown as the past."""
    fleet = running_fleet()

    news = hear(fleet, f"{NODE}/availability", b"offline")

    assert news == [f"{AT} edge-01 offline"]
    lines = shown(fleet)
    assert lines[0] == "1 nodes, 1 dead; 1 machines: 1 gone"
    assert lines[2] == "edge-01              OFFLINE, last sign of life 0.0 s ago"
    assert lines[3] == "  fan                gone      it was ok"


def test_picture_of_a_node_long_silent_is_dead_whatever_the_broker_holds() -> None:
    """A retained ``online`` that outlived its node, as when the broker restarts, fools nobody."""
    lines = shown(running_fleet(), NOW_S + 600)

    assert lines[2] == "edge-01              SILENT, last sign of life 10 min ago"
    assert lines[3] == "  fan                gone      it was ok"


@pytest.mark.parametrize("width", [10, 40, 80, 110])
def test_picture_shows_the_reason_of_a_state_with_its_remedy(width: int) -> None:
    """Where the reason does not fit in the line of its machine, it is wrapped below."""
    fleet = running_fleet()
    reason = "USB Audio was unplugged; plug it in again"
    hear_json(fleet, f"{FAN}/state", state="no_audio", reason=reason, threshold=2.0)
    hear_json(fleet, f"{NODE}/saw/state", state="alarm", reason=reason, since_ms=1000 * TIME_S)

    lines = shown(fleet, width=width)

    assert lines[3].startswith("  fan                no_audio      4.00 / 2.00")
    n_wrapped = {10: 3, 40: 2, 80: 1, 110: 1}[width]
    assert " ".join(" ".join(lines[4 : 4 + n_wrapped]).split()) == reason
    saw = lines[4 + n_wrapped]
    assert saw.startswith("  saw                alarm")
    assert saw.endswith(reason) == (width == 110)


def test_picture_shows_those_in_trouble_first() -> None:
    """However many machines are well, the one in alarm is not below the edge of the terminal."""
    fleet = running_fleet()
    since_ms = 1000 * TIME_S
    hear_json(fleet, "edgeasd/v1/zzz/press/state", state="alarm", reason="", since_ms=since_ms)
    hear_json(fleet, "edgeasd/v1/zzz/health", time_ms=since_ms)

    lines = shown(fleet)

    assert lines[2].startswith("zzz ")
    assert f"since {AT}" in lines[3]
    assert lines[4].startswith("edge-01 ")


def test_news_are_events_and_changes_only() -> None:
    """A state said again, scores and health are no news; an event is, each time."""
    fleet = running_fleet()
    event: dict[str, Any] = {
        "type": "end",
        "time_ms": 1000 * TIME_S,
        "score": 0.5,
        "threshold": 2.0,
    }

    again = hear_json(fleet, f"{FAN}/state", state="ok", reason="", since_ms=0, threshold=2.0)
    changed = hear_json(fleet, f"{FAN}/state", state="no_audio", reason="it was unplugged")
    told = hear_json(fleet, f"{FAN}/event", **event, duration_s=11.2)

    assert again == []
    assert changed == [f"{AT} edge-01/fan no_audio: it was unplugged"]
    assert told == [f"{AT} edge-01/fan alarm end, score 0.50, threshold 2.00, after 11 s"]
    assert shown(fleet)[-2:] == ["last events", *told]


@pytest.mark.parametrize(
    "topic",
    [
        *("", "x", "edgeasd/v1", "edgeasd/v1/n", "edgeasd/v1/n/m/x", "edgeasd/v1/n/check"),
        *("edgeasd/v1/n 1/health", "edgeasd/v1/n/\x1b[2J/state", "edgeasd/v1/../health"),
    ],
)
def test_topics_of_others_are_passed_over(topic: str) -> None:
    """What is not ours below the base changes nothing."""
    fleet = Fleet()

    assert hear(fleet, topic, b"{}") == []
    assert fleet.nodes == {}


def test_warning_of_a_health_message_is_news_once_and_stays_below_the_machine() -> None:
    """What is wrong with a calibration is read by people, remedy and all, also in 80 columns."""
    fleet = running_fleet()
    warning = "alarms come far more often than calibration foresaw:" + " x" * 30
    machines = [{"name": "fan", "model_fault": "", "calibration": {"warning": warning}}]

    news = hear_json(fleet, f"{NODE}/health", time_ms=1000 * TIME_S, machines=machines)
    again = hear_json(fleet, f"{NODE}/health", time_ms=1000 * TIME_S, machines=machines)

    assert news == [f"{AT} edge-01/fan warning: {warning}"]
    assert again == []
    lines = shown(fleet, width=79)
    assert lines[4].startswith("    alarms come far more often")
    assert lines[5].startswith("    x x")
    assert max(map(len, lines[4:])) < 80
    hear_json(fleet, f"{NODE}/health", time_ms=1000 * TIME_S, machines=[{"name": "fan"}])
    assert shown(fleet)[4] == ""


@pytest.mark.parametrize("offset_s", [-3_600.0, 0.0, 3_600.0, -TIME_S, 1e11, math.inf])
def test_picture_tells_ages_whatever_the_nodes_clock_says(offset_s: float) -> None:
    """What comes now is a sign of life now, though its time be an hour off, or none."""
    fleet = new_fleet()
    hear(fleet, f"{NODE}/availability", b"online", retain=True)
    time_ms = 1000 * (TIME_S + offset_s)

    hear_json(fleet, f"{NODE}/health", time_ms=time_ms, uptime_s=60)
    hear_json(fleet, f"{FAN}/state", state="ok", since_ms=time_ms)
    hear_json(fleet, f"{FAN}/score", time_ms=time_ms, max=1.0, threshold=2.0)

    lines = shown(fleet, NOW_S + 100.0)
    assert lines[2] == "edge-01              online, last sign of life 1 min ago, up 1 min"
    assert lines[3].endswith("1 min ago")
    assert (
        shown(fleet, NOW_S + 190.0)[2] == "edge-01              SILENT, last sign of life 3 min ago"
    )


@pytest.mark.parametrize("leaf", ["health", "fan/state", "fan/event", "fan/score", "availability"])
def test_picture_takes_nothing_that_the_broker_kept_for_a_sign_of_life(leaf: str) -> None:
    """What is retained may be of years ago; a node that says no more is dead in the end."""
    fleet = new_fleet()
    payload = b"online" if leaf == "availability" else json.dumps({"time_ms": 0}).encode()

    hear(fleet, f"{NODE}/availability", b"online", retain=True)
    hear(fleet, f"{NODE}/{leaf}", payload, retain=True)

    assert shown(fleet)[2] == "edge-01              online, no sign of life yet"
    assert shown(fleet, NOW_S + 190.0)[2] == "edge-01              SILENT, no sign of life yet"
    hear(fleet, f"{NODE}/{leaf}", payload)
    assert shown(fleet)[2].startswith("edge-01              online, last sign of life 0.0 s ago")


def test_picture_blames_no_node_for_a_lost_connection() -> None:
    """While we hear nothing, and for a while after, silence is not the node's."""
    fleet = running_fleet()

    fleet.listening_since_s = math.inf
    lost = shown(fleet, NOW_S + 1_000.0)
    fleet.listening_since_s = NOW_S + 1_000.0
    back, silent = shown(fleet, NOW_S + 1_100.0), shown(fleet, NOW_S + 1_190.0)

    assert lost[2] == "edge-01              online, last sign of life 16 min ago, up 2 h 1 min"
    assert back[2] == "edge-01              online, last sign of life 18 min ago, up 2 h 1 min"
    assert silent[2] == "edge-01              SILENT, last sign of life 19 min ago"


def test_fleet_forgets_what_was_taken_back() -> None:
    """A machine whose state is cleared is gone, and with its last word the node."""
    fleet = running_fleet()

    told = hear(fleet, f"{FAN}/state", b"")
    before = list(fleet.nodes)
    hear(fleet, f"{NODE}/health", b"")
    hear(fleet, f"{NODE}/availability", b"")

    assert told == [f"{AT} edge-01/fan is no longer monitored"]
    assert before == ["edge-01"]
    assert fleet.nodes == {}


def test_fleet_leaves_out_what_is_too_large_and_says_so_once_a_topic() -> None:
    """A message of megabytes is neither read nor ignored in silence."""
    fleet = running_fleet()
    health = b'{"machines": [{"name": "fan", "model_fault": "%s"}]}' % (b"x" * 10_000_000)

    told = [
        hear(fleet, topic, health) for topic in (f"{NODE}/health", f"{NODE}/health", "elsewhere")
    ]

    words = f"edge-01/health: a message of {len(health)} bytes is ignored"
    assert told == [[f"{AT} {words}"], [], []]
    assert shown(fleet)[2] == f"2 messages ignored; {words}"


def test_fleet_keeps_so_many_nodes_and_machines_and_no_more() -> None:
    """What a flood of names takes in memory, and in each picture, has an end."""
    fleet = running_fleet()

    for number in range(1_100):
        hear(fleet, f"edgeasd/v1/n{number}/availability", b"online")
    machines = [{"name": f"m{number}"} for number in range(7_000)]
    hear_json(fleet, f"{NODE}/health", machines=machines)
    hear_json(fleet, "edgeasd/v1/n1/health", machines=machines)
    told = hear_json(fleet, "edgeasd/v1/n2/m/state", state="ok")

    assert len(fleet.nodes) == 1_000
    assert sum(len(node.machines) for node in fleet.nodes.values()) == 10_000
    assert told == [f"{AT} n2/m/state: one machine too many is ignored"]
    assert hear(fleet, f"{FAN}/state", b"") == [f"{AT} edge-01/fan is no longer monitored"]
    assert hear_json(fleet, "edgeasd/v1/n2/m/state", state="ok") == [f"{AT} n2/m ok"]


def test_picture_is_made_of_what_is_shown_alone() -> None:
    """With the most nodes and machines of the worst messages it takes a moment, not a minute."""
    ordinary, worst = running_fleet(), new_fleet()
    flood = "\u0301\u202e\n\U0001f4a9" * 300
    for number in range(500):
        machines = [
            {"name": f"m{number}-{one}", "model_fault": flood, "calibration": {"warning": flood}}
            for one in range(2)
        ]
        said: dict[str, Any] = {
            "machines": machines,
            "mqtt": {"queued_events": 1e14},
            "uptime_s": 1e14,
        }
        hear_json(worst, f"edgeasd/v1/n{number}/health", **said)
        for one in range(9):
            who = f"edgeasd/v1/n{number}/m{one}"
            hear_json(worst, f"{who}/state", state=f"{number}-{one}{flood}", reason=flood)
            hear_json(worst, f"{who}/score", max=-1e14, threshold=1e-310)

    lines = picture(worst, NOW_S, 40, 79, ascii_only=False)
    ratio = min(timeit.repeat(lambda: picture(worst, NOW_S, 40, 79, ascii_only=False), number=1))
    ratio /= min(
        timeit.repeat(lambda: picture(ordinary, NOW_S, 40, 79, ascii_only=False), number=1)
    )

    assert len(lines) == 40
    assert lines[0].plain == "500 nodes, 0 dead; 5500 machines: 5500 unknown"
    assert max(len(line.plain) for line in lines) < 1_000
    # Measured: about 100, 2 ms; a line for each machine takes 4000.
    assert ratio < 1_000


def test_picture_of_thousands_of_machines_is_drawn_in_a_moment() -> None:
    """Messages are not kept waiting: drawing takes as long as that of one screen of machines."""
    few, many = new_fleet(), new_fleet()
    for fleet, n_nodes in ((few, 4), (many, 900)):
        for number in range(10 * n_nodes):
            node = f"edgeasd/v1/n{number // 10}"
            hear_json(fleet, f"{node}/m{number}/state", state="alarm", reason="score 漢字 " * 20)
            hear_json(fleet, f"{node}/m{number}/score", max=float(number % 7), threshold=3.0)
    console = Console(width=110, height=40, file=io.StringIO(), force_terminal=True)

    def duration_s(fleet: Fleet) -> float:
        def draw() -> None:
            drawn_on(console, picture(fleet, NOW_S, 40, 79, ascii_only=False))

        return min(timeit.repeat(draw, number=1))

    took = {"few": duration_s(few), "many": duration_s(many)}

    print({name: f"{1000 * seconds:.1f} ms" for name, seconds in took.items()})
    assert took["many"] < 20.0 * took["few"]


def test_sparkline_goes_from_low_to_high() -> None:
    """The lowest block is the low end, the highest all above the high end."""
    assert sparkline([-1, 0, 4, 7, 99], 0, 8, ascii_only=False) == "▁▁▅██"
    assert sparkline([0, 7], 0, 8, ascii_only=True) == "_@"
    assert sparkline([1, 1], 1, 1, ascii_only=True) == "__"


LEAVES = ("availability", "health", "m/state", "m/score", "m/event")
KEYS = st.sampled_from(
    [
        *("state", "reason", "type", "score", "max", "threshold", "duration_s", "time_ms"),
        *("since_ms", "mqtt", "uptime_s", "machines"),
    ]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([1e308, -1e308, 5e-324, 1e-310, 1e15, -1e15, 10**400, -1, True])
)
TEXTS = st.text(max_size=5) | st.sampled_from(
    ["x" * 5_000, "\u0301" * 5_000, "\u202e", "\u2028ok", "\ud800", "\x1b[2J", "漢字" * 500]
)
PARTS = st.fixed_dictionaries(
    {"name": st.text(max_size=5) | st.just("m")},
    optional={
        "model_fault": TEXTS | st.none(),
        "calibration": st.none() | st.fixed_dictionaries({"warning": TEXTS | st.integers()}),
    },
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
HEALTHS = st.fixed_dictionaries({"machines": st.lists(PARTS | VALUES, max_size=2) | VALUES})
PAYLOADS = st.binary(max_size=20) | (st.dictionaries(KEYS, VALUES) | HEALTHS | VALUES).map(
    lambda said: json.dumps(said).encode()
)
MESSAGES = st.tuples(st.sampled_from(LEAVES), PAYLOADS, st.booleans())


def drawn_on(console: Console, lines: list[Text]) -> list[str]:
    """The lines of a picture as they come to a terminal."""
    with console.capture() as capture:
        console.print(Group(*lines))
    return capture.get().splitlines()


def assert_can_be_drawn(fleet: Fleet) -> None:
    """The picture is of bounded size, and nothing in it steers the terminal."""
    for now_s in (NOW_S, NOW_S + 1_000.0):
        lines = picture(fleet, now_s, 40, 79, ascii_only=True)
        assert len(lines) <= 40
        assert max(len(line.plain) for line in lines) < 1_500
        drawn = drawn_on(Console(width=79, height=50, file=io.StringIO()), lines)
        assert len(drawn) == len(lines)
        for text in drawn:
            assert text.isprintable()
            assert cell_len(text) <= 79
            assert text.count("\u0301") <= 3 * 79


@given(st.lists(MESSAGES, max_size=6))
def test_picture_of_whatever_came_can_be_drawn(messages: list[tuple[str, bytes, bool]]) -> None:
    """Nothing that somebody publishes there breaks the view, or steers the terminal."""
    fleet = new_fleet()
    for leaf, payload, retain in messages:
        hear(fleet, f"edgeasd/v1/n/{leaf}", payload, retain=retain)

    assert_can_be_drawn(fleet)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"max": 1.0, "threshold": 1e-310}',
        b'{"max": 1e999, "threshold": NaN}',
        b'{"max": -1e308, "score": 1e308, "threshold": -Infinity}',
        b'{"max": %s, "threshold": 2.0}' % (b"9" * 400),
        b'{"max": %s, "time_ms": 1}' % (b"9" * 10_000),
        b'{"time_ms": 1e14, "since_ms": -1e14, "duration_s": 1e14, "uptime_s": -1e14}',
        b'{"max": true, "time_ms": false, "threshold": [1]}',
        b'{"state": ' + b"[" * 900 + b"]" * 900 + b', "reason": {"a": 1}}',
        b"[" * 200_000,
        b'{"a":' * 40_000,
        b'{"machines": [' + b"[]," * 80_000 + b"[]]}",
        b'{"machines": {"name": "m"}, "mqtt": [], "calibration": 3}',
        b"\xff\xfe\x00",
        b"null",
        b'"online"',
    ],
    ids=lambda payload: f"{payload[:30].decode('latin-1')!r} {len(payload)}",
)
@pytest.mark.parametrize("leaf", LEAVES)
def test_picture_survives_the_worst_messages(leaf: str, payload: bytes) -> None:
    """One message that the broker keeps must not end every watch at its start."""
    fleet = running_fleet()

    for retain in (True, False):
        hear(fleet, f"{NODE}/{leaf}".replace("/m/", "/fan/"), payload, retain=retain)

    assert_can_be_drawn(fleet)
