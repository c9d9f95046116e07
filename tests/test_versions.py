"""The environment of the lowest versions holds what it is for."""

from __future__ import annotations

import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version


def lowest_versions() -> dict[str, Version]:
    """Return the lower bounds that hold for this Python, of all extras but the trainer's."""
    found = {}
    for one in map(Requirement, requires("edgeasd") or []):
        holds = one.marker is None or any(
            one.marker.evaluate({"extra": extra}) for extra in ("", "demo", "dev", "plot")
        )
        for bound in one.specifier:
            if holds and bound.operator == ">=":
                found[one.name] = Version(bound.version)
    return found


@pytest.mark.skipif(
    Path(sys.prefix).name != ".venv-lowest", reason="other environments have other versions"
)
def test_lowest_versions_are_installed() -> None:
    """Nothing is newer than what is declared as enough: the other tests there would not show it."""
    lowest = lowest_versions()

    assert {"numpy", "onnxruntime", "paho-mqtt", "amqtt", "pytest"} <= set(lowest)
    assert {name: Version(version(name)) for name in lowest} == lowest


def test_versions_are_not_below_the_lowest() -> None:
    """The bounds are read as they are meant."""
    assert {
        name for name, low in lowest_versions().items() if Version(version(name)) < low
    } == set()
