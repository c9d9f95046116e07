"""The MQTT topics of one node."""

from __future__ import annotations

from dataclasses import dataclass

from edgeasd.common.config import is_base, is_level

ONLINE = b"online"
OFFLINE = b"offline"

_TREE = ("edgeasd", "v1")


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
        return "/".join((*base, *_TREE, self.node, *levels))


def topics_of_retained(topic: str) -> Topics | None:
    """Return the topics of the node that retains its messages on *topic*; None if none would.

    Whatever text it is given, what it returns something for is a topic that can be published on.
    """
    levels = topic.split("/")
    of_machine = levels[-1] == "state"
    n_own = len(_TREE) + (3 if of_machine else 2)
    base, own = "/".join(levels[:-n_own]), levels[-n_own:]
    if len(own) < n_own or tuple(own[:2]) != _TREE or not all(map(is_level, own)):
        return None
    topics = Topics(base, own[2])
    known = (topics.state(own[3]),) if of_machine else (topics.availability, topics.health)
    return topics if is_base(base) and topic in known else None
