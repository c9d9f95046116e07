"""The MQTT topics of one node."""

from __future__ import annotations

import re
from dataclasses import dataclass

ONLINE = b"online"
OFFLINE = b"offline"

_LEVEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def is_level(name: str) -> bool:
    """Return whether *name* may be that of a node or machine, and so a level of its topics."""
    return _LEVEL.fullmatch(name) is not None and name.strip(".") != ""


def state_beside(event_topic: str) -> str:
    """Return the state topic of the machine whose event topic it is, of whatever node."""
    return event_topic.rpartition("/")[0] + "/state"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one node.

    Attributes:
        base: Levels put in front, for example ``acme/plant1``; may be empty.
        node: Name of this computer.
    """

    base: str
    node: str

    @property
    def availability(self) -> str:
        """Whether the node is there: `ONLINE` or `OFFLINE`, retained."""
        return self._topic("availability")

    @property
    def health(self) -> str:
        """How the node is: a health payload, retained."""
        return self._topic("health")

    @property
    def check(self) -> str:
        """Where ``edgeasd check`` sends a message to itself; nobody else need read it."""
        return self._topic("check")

    def state(self, machine: str) -> str:
        """How *machine* is now: a state payload, retained."""
        return self._topic(machine, "state")

    def event(self, machine: str) -> str:
        """Alarms of *machine*: event payloads."""
        return self._topic(machine, "event")

    def machine_of(self, event_topic: str) -> str | None:
        """Return the machine whose event topic it is; None if it is no such topic of this node."""
        machine = event_topic.rpartition("/")[0].rpartition("/")[2]
        return machine if event_topic == self.event(machine) else None

    def score(self, machine: str) -> str:
        """Scores of *machine*: score payloads."""
        return self._topic(machine, "score")

    def _topic(self, *levels: str) -> str:
        base = (self.base,) if self.base else ()
        return "/".join((*base, "edgeasd", "v1", self.node, *levels))
