"""The packages that ``deploy/install.sh`` installs, as ``deploy/constraints.txt`` pins them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

FILE = Path(__file__).parents[2] / "deploy" / "constraints.txt"


@dataclass(frozen=True, slots=True)
class Pinned:
    """A package, with the hashes of all its files.

    Attributes:
        requirement: Name, version, and for what Python.
        hashes: As pip has them.
    """

    requirement: Requirement
    hashes: tuple[str, ...]

    def is_for(self, python: str) -> bool:
        """Return whether *python*, for example ``3.11``, takes it."""
        marker = self.requirement.marker
        environment = {"python_version": python, "python_full_version": f"{python}.0"}
        return marker is None or marker.evaluate(environment)


def read_constraints() -> list[Pinned]:
    """Return what the file holds.

    Raises:
        InvalidRequirement: If it holds anything else.
    """
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    lines = (re.split(r"\s+--hash=", line) for line in text.splitlines())
    return [Pinned(Requirement(line), tuple(hashes)) for line, *hashes in lines]


def requirements_for(python: str) -> str:
    """Return the file as it is for *python* alone, whatever Python reads it."""
    return "".join(
        f"{one.requirement.name}{one.requirement.specifier} "
        f"{' '.join(f'--hash={each}' for each in one.hashes)}\n"
        for one in read_constraints()
        if one.is_for(python)
    )
