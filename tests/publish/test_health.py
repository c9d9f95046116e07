"""A health message fits the broker; if need be, machines in state ok are left out first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgeasd.publish.payloads.encoding import encode
from edgeasd.publish.payloads.health import encode_health
from tests.publish.test_payloads import health

SCHEMA = Path(__file__).parents[2] / "deploy" / "schemas" / "health.schema.json"


def large_health(n_machines: int) -> dict[str, Any]:
    """The health of a node whose every third machine is dead."""
    made = dict(health())
    (machine,) = made["machines"]
    made["machines"] = [
        {**machine, "name": f"m{n}", "state": "no_audio" if n % 3 == 2 else "ok"}
        for n in range(n_machines)
    ]
    return made


@pytest.mark.parametrize("room", [None, 1_000_000])
def test_health_that_fits_is_told_whole(room: int | None) -> None:
    """Nothing is left out, and the message does not say so."""
    assert encode_health(large_health(9), room) == encode(large_health(9))
    assert encode_health(large_health(9), len(encode(large_health(9)))) == encode(large_health(9))


@pytest.mark.parametrize("n_machines", [0, 1, 9, 200])
def test_health_of_any_room_fits_and_is_valid(n_machines: int) -> None:
    """It has as many machines as fit, the dead ones first, and all else."""
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    whole = large_health(n_machines)
    size, least = len(encode(whole)), len(encode_health(whole, 0))

    for room in {least, least + 1, 1000, 1500, size // 2, size - 1} - set(range(least)):
        made = encode_health(whole, room)
        told = json.loads(made)
        validator.validate(told)
        states = [machine["state"] for machine in told["machines"]]

        assert len(made) <= max(room, least)
        assert states == sorted(states, key=lambda state: state == "ok")
        if room < size:
            assert told["truncated"]
            one_more = len(encode(whole["machines"][0])) + 1 if whole["machines"] else 0
            assert len(made) + 2 * one_more > room or len(states) >= n_machines - 1


def test_health_that_cannot_fit_is_as_small_as_can_be() -> None:
    """It has no machines, and no words on what is not applied."""
    told = json.loads(encode_health(large_health(9), 10))

    assert told["machines"] == []
    assert told["configuration"] == {"ok": False, "refused": []}
    assert told["mqtt"] == health()["mqtt"]
