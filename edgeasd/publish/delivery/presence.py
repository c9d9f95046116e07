"""The retained messages of a node at its broker: noted, cleared, and sent again if overwritten.

The thread that supervises the daemon does the work.  The thread of the publisher only leaves here
what the broker answered and sent.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from edgeasd.publish.delivery.namesake import EarlierName, Namesake
from edgeasd.publish.delivery.publisher import MqttPublisher
from edgeasd.publish.delivery.retained_notes import RetainedNotes
from edgeasd.publish.mqtt.inbound import Received
from edgeasd.publish.topics import Topics, topics_of_retained

_LEAVE_S = 3.0
"""Longest wait for a broker, before it is left, to clear the retained messages."""
_SEND_AGAIN_S = 10.0
"""Least time between two times that all messages are sent again, whatever other clients do."""
_WIPED_S = 1.0
"""Another client that clears the messages of a node does so within this time."""
_MAX_EARLIER = 16
"""Most earlier names cleared in one run; each costs two subscriptions."""
_MAX_RECEIVED = 64
"""Most received messages that wait, of up to 256 kB each; of more, the oldest are dropped."""
_MAX_LISTED = 3
_log = logging.getLogger(__name__)


class Presence:
    """The retained messages of one node, at one broker after the other.

    Args:
        topics: Topics of the node.
        boot_id: Name of this run of the daemon.
        path: File of notes of the topics that earlier runs retained messages on.

    Attributes:
        fault: Words that say that another client has the name, with the remedy; empty if none has.
    """

    def __init__(self, topics: Topics, boot_id: str, path: Path) -> None:
        self.fault = ""
        self._topics = topics
        self._notes = RetainedNotes(path)
        self._namesake = Namesake(topics, boot_id, self._notes.runs)
        self._notes.begin(boot_id)
        self._host = ""
        self._said = {topics.availability, topics.health}
        self._to_clear: set[str] = set()
        self._earlier: dict[Topics, EarlierName] = {}
        self._wiped_s: float | None = None
        self._sent_again_s = -_SEND_AGAIN_S
        # Filled by the thread of the publisher.
        self._cleared: deque[tuple[str, str]] = deque()
        self._refused: deque[str] = deque()
        self._received: deque[Received] = deque(maxlen=_MAX_RECEIVED)

    def listens_to(self, host: str) -> list[str]:
        """Return the topics to subscribe to at the broker *host*."""
        return [
            topic
            for topics in (self._topics, *self._earlier_names(host))
            for topic in (topics.availability, topics.health)
        ]

    def was_taken(self, host: str, topic: str, payload: bytes) -> None:
        """Take note that *host* has acknowledged a retained message; any thread may call."""
        if not payload:
            self._cleared.append((host, topic))

    def was_refused(self, topic: str) -> None:
        """Take note that the broker does not let *topic* be cleared; any thread may call."""
        self._refused.append(topic)

    def was_received(self, message: Received) -> None:
        """Take a message from the broker; any thread may call."""
        self._received.append(message)

    def move_to(self, host: str, publisher: MqttPublisher) -> None:
        """Go on at the broker *host*, before *publisher* connects there."""
        if host != self._host:
            self._report_leftovers(host)
            self._host = host
            self._to_clear.clear()
            now_s = time.monotonic()
            self._earlier = {
                topics: EarlierName(topics, self._notes.runs, now_s)
                for topics in self._earlier_names(host)
            }
        self._notes.note(host, sorted(self._said))
        for topic in sorted(self._to_clear):
            publisher.publish_retained(topic, b"")

    def leave(self, publisher: MqttPublisher) -> None:
        """Clear all retained messages at a broker that is used no longer, if it answers in time."""
        for topic in self._said - {self._topics.availability}:
            publisher.publish_retained(topic, b"")
        last = publisher.retained()
        end_s = time.monotonic() + _LEAVE_S
        while any(not payload for payload in last.values()) and publisher.connected:
            if time.monotonic() > end_s:
                break
            time.sleep(0.02)
            last = publisher.retained()
        publisher.stop(last_word=b"")
        self._strike(())

    def say(self, topics: Iterable[str]) -> None:
        """Note *topics* of the node, before messages are retained on them."""
        self._said.update(topics)
        self._to_clear -= self._said
        self._notes.note(self._host, sorted(self._said))

    def clear(self, topic: str, publisher: MqttPublisher) -> None:
        """Clear *topic* of the node, on which a message may be retained."""
        self._said.discard(topic)
        self._notes.note(self._host, [topic])
        self._clear(topic, publisher)

    def states(self) -> list[str]:
        """Return the state topics on which this node may have retained messages."""
        noted = self._noted(self._topics)
        return [topic for topic in noted if topic.endswith("/state")]

    def add_earlier(self, topic: str) -> None:
        """Have *topic* cleared, which this node used under an earlier name."""
        topics = topics_of_retained(topic)
        if topics is not None and topics != self._topics:
            self._notes.note(self._host, [topic])
            name = EarlierName(topics, self._notes.runs, time.monotonic())
            self._earlier.setdefault(topics, name)

    def look_after(self, publisher: MqttPublisher) -> None:
        """Act on the broker's answers and messages; to be called regularly."""
        now_s = time.monotonic()
        self._strike(self._said)
        self._report_refused()
        while self._received:
            self._receive(self._received.popleft(), now_s)
        self._report_fault(self._namesake.fault(now_s))
        self._send_again(publisher, now_s)
        for topics, name in list(self._earlier.items()):
            if not publisher.connected:
                name.wait(now_s)
            elif (is_ours := name.is_ours(now_s)) is not None:
                del self._earlier[topics]
                self._end(topics, publisher, is_ours=is_ours)

    def _receive(self, message: Received, now_s: float) -> None:
        received = message.topic, message.payload, now_s
        is_wiped = self._namesake.receive(*received, retained=message.retain)
        if is_wiped and self._wiped_s is None:
            self._wiped_s = now_s
        for name in self._earlier.values():
            name.receive(*received, retained=message.retain)

    def _send_again(self, publisher: MqttPublisher, now_s: float) -> None:
        """Send all messages again if another client cleared them, once it is done with all."""
        if self._wiped_s is None or now_s - self._wiped_s < _WIPED_S:
            return
        if now_s - self._sent_again_s > _SEND_AGAIN_S:
            self._wiped_s = None
            self._sent_again_s = now_s
            for topic, payload in publisher.retained().items():
                publisher.publish_retained(topic, payload)

    def _report_fault(self, fault: str) -> None:
        if fault and fault != self.fault:
            _log.warning("%s", fault)
        elif self.fault and not fault:
            _log.info("no other client has the name %s any more", self._topics.node)
        self.fault = fault

    def _strike(self, but: Iterable[str]) -> None:
        """Strike out the topics that were cleared, *but* those in use again."""
        cleared: dict[str, set[str]] = {}
        while self._cleared:
            host, topic = self._cleared.popleft()
            cleared.setdefault(host, set()).add(topic)
        for host, topics in cleared.items():
            gone = topics - set(but) if host == self._host else topics
            self._notes.strike(host, gone)
            self._to_clear -= gone

    def _end(self, topics: Topics, publisher: MqttPublisher, *, is_ours: bool) -> None:
        """Clear the messages under an earlier name, or leave them to the client that has it now."""
        noted = self._noted(topics)
        if is_ours:
            _log.info("%s: clearing the retained messages of this earlier name", _tree(topics))
            for topic in noted:
                self._clear(topic, publisher)
        else:
            _log.warning("%s: in use by another client; its messages stay", _tree(topics))
            self._notes.strike(self._host, noted)

    def _clear(self, topic: str, publisher: MqttPublisher) -> None:
        self._to_clear.add(topic)
        publisher.publish_retained(topic, b"")

    def _report_refused(self) -> None:
        refused: list[str] = []
        while self._refused:
            refused.append(self._refused.popleft())
        if refused:
            _log.warning(
                "the broker at %s does not let this account clear %s; clear them by one that may: "
                "mosquitto_pub --retain --null-message --topic ...",
                self._host,
                _counted(refused),
            )

    def _report_leftovers(self, host: str) -> None:
        """Log what stays at the broker of the run before, if it was another one."""
        last = self._host or next(iter(reversed(self._notes.hosts())), host)
        stays = self._notes.topics(last)
        if last != host and stays:
            _log.warning(
                "the messages retained at the broker %s, which is no longer used, stay there: %s",
                last,
                _counted(stays),
            )

    def _earlier_names(self, host: str) -> list[Topics]:
        names = dict.fromkeys(map(topics_of_retained, self._notes.topics(host)))
        return [topics for topics in names if topics not in (None, self._topics)][-_MAX_EARLIER:]

    def _noted(self, topics: Topics) -> list[str]:
        return [one for one in self._notes.topics(self._host) if topics_of_retained(one) == topics]


def _tree(topics: Topics) -> str:
    return topics.availability.rpartition("/")[0]


def _counted(topics: list[str]) -> str:
    more = f" and {len(topics) - _MAX_LISTED} more" if len(topics) > _MAX_LISTED else ""
    return ", ".join(topics[:_MAX_LISTED]) + more
