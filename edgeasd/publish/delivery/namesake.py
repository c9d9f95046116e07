"""Whether another client has the name of this node, or an earlier name of it.

Two clients of one name disconnect each other for ever, or overwrite each other's states.  To notice
that, a node subscribes to its own availability and health, and recognises its own messages by their
boot id.  A retained message may come from a run that is over, so it proves nothing unless it is
newer than the one that was there at first.

No network and no clock: times are handed in, in seconds.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeasd.publish.topics import OFFLINE, ONLINE

if TYPE_CHECKING:
    from collections.abc import Collection

    from edgeasd.publish.topics import Topics

HELD_S = 120.0
"""How long a sign of another client counts.  Two that disconnect each other pause in between."""

QUIET_S = 180.0
"""Default time of three health messages: a client that was silent for so long is gone."""

_SETTLED_S = 10.0
"""Time after a new connection in which the broker may still publish the will of the one before."""

_TOGETHER_S = 1.0
"""Time within which the retained messages of one node arrive, in any order."""


def another_client(node: str) -> str:
    """Return in words that another client has the name *node*, with the remedy."""
    return f"another client has the name {node}; give each node its own"


@dataclass(frozen=True, slots=True)
class _Life:
    """What a health message tells about its sender."""

    boot_id: str = ""
    uptime_s: float = math.inf


class Namesake:
    """Whether another client publishes on the topics of this node.

    Args:
        topics: Topics of this node.
        boot_id: Name of this run of the daemon.
        earlier: Boot ids of earlier runs, perhaps with that of this one.
    """

    def __init__(self, topics: Topics, boot_id: str, earlier: Collection[str]) -> None:
        self._topics = topics
        self._boot_id = boot_id
        self._earlier = earlier
        self._first: _Life | None = None
        self._online_s = -math.inf
        self._sign_s = -math.inf

    def receive(self, topic: str, payload: bytes, now_s: float, *, retained: bool) -> bool:
        """Take a message on the node's availability or health.

        Returns:
            Whether another client overwrote what this node retains, so that it must be sent again.
        """
        if topic == self._topics.health:
            if payload and self._is_of_another(_life(payload), retained=retained):
                self._sign_s = now_s
            return not payload and not retained
        if topic != self._topics.availability or retained:
            return False
        if payload == ONLINE:
            self._online_s = now_s
            return False
        if payload == OFFLINE and now_s - self._online_s > _SETTLED_S:
            self._sign_s = now_s
        return True

    def fault(self, now_s: float) -> str:
        """Return the fault with its remedy; empty if no other client was noticed lately."""
        if now_s - self._sign_s > HELD_S:
            return ""
        return another_client(self._topics.node)

    def _is_of_another(self, life: _Life, *, retained: bool) -> bool:
        if life.boot_id == self._boot_id:
            self._first = self._first or life
            return False
        if not retained:
            return True
        if self._first is None:
            self._first = life
            return False
        if life.boot_id == self._first.boot_id:
            return life.uptime_s > self._first.uptime_s
        # A broker that was killed may restart with the messages of an earlier run.
        return life.boot_id not in self._earlier


class EarlierName:
    """Whether the messages retained under an earlier name of this node are its own to clear.

    Another node may have that name by now: one that had it at the same time, or one that was given
    it since.

    Args:
        topics: Topics under the earlier name.
        earlier: Boot ids of earlier runs of this node.
        now_s: When the broker was first asked for the retained messages.
    """

    def __init__(self, topics: Topics, earlier: Collection[str], now_s: float) -> None:
        self._topics = topics
        self._earlier = earlier
        self._received_s = now_s
        self._is_offline = False
        self._is_taken = False

    def receive(self, topic: str, payload: bytes, now_s: float, *, retained: bool) -> None:
        """Take a message; one on another topic is ignored."""
        if not payload or topic not in (self._topics.availability, self._topics.health):
            return
        self._received_s = now_s
        if topic == self._topics.health:
            self._is_taken |= not retained or _life(payload).boot_id not in self._earlier
        else:
            self._is_offline = payload == OFFLINE
            self._is_taken |= not retained and payload == ONLINE

    def wait(self, now_s: float) -> None:
        """Start to wait anew, since there is no connection."""
        self._received_s = now_s

    def is_ours(self, now_s: float) -> bool | None:
        """Return whether to clear the messages; None as long as that is not known.

        After a power cut the availability may still be ``online``.  Then it is known once nobody
        has published for long, as it is if the broker does not let this node read there.
        """
        if self._is_taken:
            return False
        wait_s = _TOGETHER_S if self._is_offline else QUIET_S
        return True if now_s - self._received_s > wait_s else None


def _life(payload: bytes) -> _Life:
    """Return what a health message tells about its sender; no boot id for any other message."""
    try:
        said = json.loads(payload)
        return _Life(str(said["boot_id"]), float(said["uptime_s"]))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return _Life()
