"""``deploy/constraints.txt`` pins all that the program needs, for every Python that it is for."""

from __future__ import annotations

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import CHECKOUT
from tests.deploy.constraints import FILE, read_constraints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
NEEDED = [
    *PROJECT["build-system"]["requires"],
    *PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"]["plot"],
]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("needed", NEEDED)
def test_what_is_declared_is_pinned_within_its_bounds(needed: str, python: str) -> None:
    """A version once for each Python, and for none that does not need it."""
    wanted = Requirement(needed)
    is_wanted = wanted.marker is None or wanted.marker.evaluate({"python_version": python})

    versions = [
        next(iter(one.requirement.specifier)).version
        for one in read_constraints()
        if canonicalize_name(one.requirement.name) == canonicalize_name(wanted.name)
        and one.is_for(python)
    ]

    assert len(versions) == is_wanted
    assert all(wanted.specifier.contains(version) for version in versions)


def test_every_line_pins_one_version_and_its_files() -> None:
    """By SHA-256; nothing is taken from an address, nor from this computer."""
    pinned = read_constraints()

    assert len(pinned) > len(NEEDED)
    for one in pinned:
        assert [each.operator for each in one.requirement.specifier] == ["=="]
        assert one.requirement.url is None
        assert one.hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in one.hashes)
    assert not re.search("://|index|find-links", FILE.read_text())
