"""Another client of the same name is distinguished from this one's messages, old and new."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edgeasd.publish.delivery.namesake import HELD_S, QUIET_S, EarlierName, Namesake
from edgeasd.publish.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPICS = Topics("hall", "pc-1")
ONLINE, OFFLINE = "online", "offline"
FAULT = "another client has the name pc-1; give each node its own"

Heard = tuple[float, str, bool]
"""Time, content (``online``, ``offline``, or boot id and uptime of a health), if retained."""


def message(said: str) -> tuple[str, bytes]:
    """Return topic and payload of a message."""
    if said in {ONLINE, OFFLINE}:
        return TOPICS.availability, said.encode()
    if said.startswith("availability="):
        return TOPICS.availability, said.partition("=")[2].encode()
    if said.startswith("health="):
        return TOPICS.health, said.partition("=")[2].encode()
    boot_id, _, uptime_s = said.partition(" ")
    return TOPICS.health, json.dumps({"boot_id": boot_id, "uptime_s": float(uptime_s)}).encode()


@pytest.mark.parametrize(
    ("heard", "is_another"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param([(0, "0a 1", False), (60, "0a 61", False)], False, id="itself"),
        pytest.param([(0, OFFLINE, True), (0, "0e 9", True)], False, id="its-run-before"),
        pytest.param([(0, "ff 9", True), (0, "0a 1", False)], False, id="unknown-run-long-ago"),
        pytest.param([(0, "0a 1", False), (60, "ff 9", False)], True, id="another-that-speaks"),
        pytest.param([(0, "0a 1", False), (60, "0e 9", False)], True, id="copy-of-its-disk"),
        pytest.param([(0, "0a 1", False), (9, "ff 9", True)], True, id="another-in-between"),
        pytest.param([(0, "ff 9", True), (9, "ff 9", True)], False, id="still-the-unknown-run"),
        pytest.param([(0, "ff 9", True), (9, "ff 18", True)], True, id="unknown-run-that-goes-on"),
        pytest.param([(0, "0e 9", True), (9, "0e 18", True)], True, id="copy-that-goes-on"),
        pytest.param([(0, "0e 9", True), (9, "0e 4", True)], False, id="broker-from-an-old-save"),
        pytest.param(
            [(0, "0a 1", False), (9, "0e 4", True)], False, id="broker-from-an-older-save"
        ),
        pytest.param([(0, "0a 1", False), (9, "0a 1", True)], False, id="its-own-again"),
        pytest.param([(0, ONLINE, False), (1, OFFLINE, False)], False, id="late-will-of-its-own"),
        pytest.param([(0, ONLINE, False), (60, OFFLINE, False)], True, id="will-of-another"),
        pytest.param(
            [(0, ONLINE, False), (60, OFFLINE, True)], False, id="broker-with-an-old-word"
        ),
        pytest.param([(0, "0a 1", False), (9, "health=[1", False)], True, id="another-program"),
        pytest.param([(0, "0a 1", False), (9, "health=", False)], False, id="wiped"),
        pytest.param([(0, "0a 1", False), (9, "health={}", True)], True, id="not-ours-retained"),
        pytest.param([(0, "health=" + "[" * 9999, True)], False, id="nested-deep"),
        pytest.param([(0, 'health={"boot_id":1,"uptime_s":[]}', True)], False, id="other-types"),
    ],
)
def test_namesake_is_told_by_what_is_heard(heard: Sequence[Heard], *, is_another: bool) -> None:
    """Only messages of another client count, not those of this run or of earlier ones."""
    namesake = Namesake(TOPICS, "0a", ["0e", "0a"])

    for now_s, said, retained in heard:
        namesake.receive(*message(said), now_s, retained=retained)

    last_s = heard[-1][0] if heard else 0.0
    assert namesake.fault(last_s) == (FAULT if is_another else "")


def test_namesake_heard_now_and_then_is_told_without_a_break() -> None:
    """Two that disconnect each other pause for up to a minute; after two minutes the fault ends."""
    namesake = Namesake(TOPICS, "0a", [])

    told = []
    for now_s in range(0, 600, 60):
        if now_s <= 300:
            namesake.receive(*message("ff 1"), float(now_s), retained=False)
        told.append(namesake.fault(now_s + 59.0) != "")

    assert told == [True] * 7 + [False] * 3
    assert namesake.fault(300 + HELD_S + 1) == ""


@pytest.mark.parametrize(
    ("said", "retained", "is_wiped"),
    [
        (OFFLINE, False, True),
        (OFFLINE, True, False),
        (ONLINE, False, False),
        ("availability=", False, True),
        ("availability=x", False, True),
        ("health=", False, True),
        ("health=", True, False),
        ("0a 1", False, False),
        ("ff 1", False, False),
    ],
)
def test_namesake_tells_when_what_was_retained_is_gone(
    said: str, *, retained: bool, is_wiped: bool
) -> None:
    """A node reported offline, or cleared, sends all again; older messages do not count."""
    namesake = Namesake(TOPICS, "0a", [])

    assert namesake.receive(*message(said), 60.0, retained=retained) is is_wiped


@pytest.mark.parametrize(
    ("heard", "now_s", "is_ours"),
    [
        pytest.param([(0, OFFLINE, True), (0, "0e 9", True)], 0.5, None, id="perhaps-more-comes"),
        pytest.param([(0, OFFLINE, True), (0, "0e 9", True)], 2, True, id="left-by-itself"),
        pytest.param([(0, "0e 9", True), (0, OFFLINE, True)], 2, True, id="in-the-other-order"),
        pytest.param([(0, OFFLINE, True), (0, "ff 9", True)], 2, False, id="another-had-it"),
        pytest.param([(0, ONLINE, True), (0, "ff 9", True)], 2, False, id="another-has-it"),
        pytest.param([(0, ONLINE, True), (0, "0e 9", True)], 9, None, id="copy-or-power-cut"),
        pytest.param(
            [(0, ONLINE, True), (0, "0e 9", True), (30, "0e 39", False)], 31, False, id="copy"
        ),
        pytest.param([(0, ONLINE, True), (0, "0e 9", True)], QUIET_S + 1, True, id="power-cut"),
        pytest.param(
            [(0, ONLINE, True), (0, "0e 9", True), (40, OFFLINE, False)], 42, True, id="late-will"
        ),
        pytest.param([(0, OFFLINE, True), (0.5, ONLINE, False)], 9, False, id="comes-just-now"),
        pytest.param([(0, OFFLINE, True), (0, "health={}", True)], 2, False, id="no-node-of-ours"),
        pytest.param([], 9, None, id="cannot-be-read"),
        pytest.param([], QUIET_S + 1, True, id="cannot-be-read-for-long"),
        pytest.param([(5, "health=", False)], QUIET_S + 1, True, id="cleared-already"),
    ],
)
def test_earlier_name_is_cleared_unless_another_has_it(
    heard: Sequence[Heard], now_s: float, *, is_ours: bool | None
) -> None:
    """Messages that this node left are distinguished from those of a node that has the name now."""
    name = EarlierName(TOPICS, ["0e", "0a"], 0.0)

    for heard_s, said, retained in heard:
        name.receive(*message(said), heard_s, retained=retained)

    assert name.is_ours(now_s) is is_ours
