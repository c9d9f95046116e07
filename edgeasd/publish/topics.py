"""The MQTT topics of one node."""

from __future__ import annotations

from dataclasses import dataclass

from edgeasd.common.config.keys import is_base, is_level

ONLINE = b"online"
OFFLINE = b"offline"

_TREE = ("edgeasd", "v1")


def state_beside(event_topic: str) -> str:
    """Return the state topic of the machine with this event topic, whatever its node."""
    return event_topic.rpartition("/")[0] + "/state"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one node.

    Attributes:
        base: First levels of all topics, for example ``acme/plant1``; may be empty.
        node: Name of this computer.
    """

    base: str
    node: str

    @property
    def availability(self) -> str:
        """Topic of whether the node runs: `ONLINE` or `OFFLINE`, retained."""
        return self._topic("availability")

    @property
    def health(self) -> str:
        """Topic of the health payload, retained."""
        return self._topic("health")

    @property
    def check(self) -> str:
        """Topic on which ``edgeasd check`` sends a message to itself; nobody else need read it."""
        return self._topic("check")

    def state(self, machine: str) -> str:
        """Return the topic of the state payloads of *machine*, retained."""
        return self._topic(machine, "state")

    def event(self, machine: str) -> str:
        """Return the topic of the event payloads of *machine*."""
        return self._topic(machine, "event")

    def machine_of(self, event_topic: str) -> str | None:
        """Return the machine with this event topic; None if it is not one of this node."""
        machine = event_topic.rpartition("/")[0].rpartition("/")[2]
        return machine if event_topic == self.event(machine) else None

    def score(self, machine: str) -> str:
        """Return the topic of the score payloads of *machine*."""
        return self._topic(machine, "score")

    def _topic(self, *levels: str) -> str:
        base = (self.base,) if self.base else ()
        return "/".join((*base, *_TREE, self.node, *levels))


def topics_of_retained(topic: str) -> Topics | None:
    """Return the topics of the node that retains messages on *topic*; None if no node does.

    For any *topic* on which nothing can be published the answer is None.
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
