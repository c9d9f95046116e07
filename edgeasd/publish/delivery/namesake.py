"""Does another client go by the name of this node, or of an earlier one?  Pure; times are seconds.

Two clients of one name disconnect each other for ever, or write over each other's states.  Each
hears what is said on its own availability and health, and knows its own messages by their boot id.
What is retained may be of a run that is over; it proves nothing unless it is newer than what was
there at first.
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
"""For how long one sign of another client counts; two that disconnect each other pause between."""

QUIET_S = 180.0
"""Three health messages, as they come by default: who is silent for so long is gone."""

_SETTLED_S = 10.0
"""After a new connection, the broker may still publish the will of the one before."""

_TOGETHER_S = 1.0
"""Retained messages of one node come together, in any order."""


def another_client(node: str) -> str:
    """Return in words that another client has the name *node*, with the remedy."""
    return f"another client has the name {node}; give each node its own"


@dataclass(frozen=True, slots=True)
class _Life:
    """What a health message tells of its sender."""

    boot_id: str = ""
    uptime_s: float = math.inf


class Namesake:
    """Whether another client is heard on the topics of this node.

    Args:
        topics: Topics of this node.
        boot_id: Name of this run of the daemon.
        earlier: Boot ids of earlier runs, this one perhaps among them.
    """

    def __init__(self, topics: Topics, boot_id: str, earlier: Collection[str]) -> None:
        self._topics = topics
        self._boot_id = boot_id
        self._earlier = earlier
        self._first: _Life | None = None
        self._said_online_s = -math.inf
        self._sign_s = -math.inf

    def hear(self, topic: str, payload: bytes, now_s: float, *, retained: bool) -> bool:
        """Take a message on the node's availability or health.

        Returns:
            Whether what this node has retained is no longer there, and is to be said again.
        """
        if topic == self._topics.health:
            if payload and self._is_of_another(_life(payload), retained=retained):
                self._sign_s = now_s
            return not payload and not retained
        if topic != self._topics.availability or retained:
            return False
        if payload == ONLINE:
            self._said_online_s = now_s
            return False
        if payload == OFFLINE and now_s - self._said_online_s > _SETTLED_S:
            self._sign_s = now_s
        return True

    def fault(self, now_s: float) -> str:
        """Return what is wrong, with the remedy; empty if no other client was heard of late."""
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
        # A broker that was killed may come back with what an earlier run retained.
        return life.boot_id not in self._earlier


class EarlierName:
    """Whether what is retained under an earlier name of this node is its own to take back.

    Another node may have that name by now: one that was there before, when both had it, or one
    that was given it since.

    Args:
        topics: Under the earlier name.
        earlier: Boot ids of earlier runs of this node.
        now_s: When the broker was first asked for what it retains there.
    """

    def __init__(self, topics: Topics, earlier: Collection[str], now_s: float) -> None:
        self._topics = topics
        self._earlier = earlier
        self._heard_s = now_s
        self._is_offline = False
        self._is_taken = False

    def hear(self, topic: str, payload: bytes, now_s: float, *, retained: bool) -> None:
        """Take a message; those on other topics are ignored."""
        if not payload or topic not in (self._topics.availability, self._topics.health):
            return
        self._heard_s = now_s
        if topic == self._topics.health:
            self._is_taken |= not retained or _life(payload).boot_id not in self._earlier
        else:
            self._is_offline = payload == OFFLINE
            self._is_taken |= not retained and payload == ONLINE

    def wait(self, now_s: float) -> None:
        """Begin to listen anew: there is no connection."""
        self._heard_s = now_s

    def is_ours(self, now_s: float) -> bool | None:
        """Return whether to clear it; None as long as it is not known.

        The last word may still be ``online`` if a power cut ended the run: nobody has said it again
        since.  The same silence is all there is if the broker lets this node read nothing there.
        """
        if self._is_taken:
            return False
        wait_s = _TOGETHER_S if self._is_offline else QUIET_S
        return True if now_s - self._heard_s > wait_s else None


def _life(payload: bytes) -> _Life:
    """Return what a health message says of its sender; of another message, of nobody known."""
    try:
        said = json.loads(payload)
        return _Life(str(said["boot_id"]), float(said["uptime_s"]))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return _Life()
