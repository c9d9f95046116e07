"""Messages on their way to the broker: those to be sent, and those not answered yet.

No network and no clock: times are handed in, monotonic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way to the broker.

    Attributes:
        kind: An event from the outbox, a retained message, or a transient one, which is of no use
            later.
        topic: Topic to publish on.
        payload: Content of the message.
        event_id: Name of the event; empty unless the message is one.
        passed_over: Older events of the same machine, which must not be delivered any more once
            this one has arrived.
    """

    kind: Literal["event", "retained", "transient"]
    topic: str
    payload: bytes
    event_id: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name under which it is remembered what the broker did with the message."""
        return self.event_id or self.topic


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it was sent.

    Attributes:
        message: The message.
        size: Bytes of the packet.
        qos: Quality of service.
        retain: Whether the broker was asked to keep it.
        sent_s: When it was sent, monotonic seconds.
        place: Place in the order of sending, from 1.
    """

    message: Message
    size: int
    qos: int
    retain: bool
    sent_s: float
    place: int


class InFlight:
    """Messages sent and not answered, by the numbers that the connection gave; one per topic."""

    def __init__(self) -> None:
        self._sent: dict[int, Sent] = {}
        self._numbers: dict[str, int] = {}  # by topic
        self._n_sent = 0
        self._last_answered = 0
        self._progress_s = 0.0

    def __len__(self) -> int:
        return len(self._sent)

    def __contains__(self, topic: object) -> bool:
        return topic in self._numbers

    @property
    def unanswered(self) -> list[Sent]:
        """The messages in the order of sending."""
        return list(self._sent.values())

    def count(self, *kinds: str) -> int:
        """Return how many messages of *kinds* are at QoS 1, of which a broker limits the number."""
        return sum(sent.qos > 0 and sent.message.kind in kinds for sent in self._sent.values())

    def add(
        self, number: int, message: Message, *, size: int, qos: int, retain: bool, now_s: float
    ) -> None:
        """Note that *message* was sent as *number*; it replaces an older one on its topic."""
        if self._awaited is None:
            self._progress_s = now_s
        self._sent.pop(self._numbers.pop(message.topic, 0), None)
        self._n_sent += 1
        self._sent[number] = Sent(message, size, qos, retain, now_s, self._n_sent)
        self._numbers[message.topic] = number

    def settle(self, number: int, now_s: float) -> Sent | None:
        """Return the message that was answered and forget it; None if it is not known."""
        sent = self._sent.pop(number, None)
        if sent is not None:
            del self._numbers[sent.message.topic]
            self._last_answered = max(self._last_answered, sent.place)
            self._progress_s = now_s
        return sent

    def stalled_s(self, now_s: float) -> float:
        """Return for how long nothing was answered although an answer is awaited."""
        return 0.0 if self._awaited is None else now_s - self._progress_s

    def skipped(self, now_s: float, patience_s: float) -> Sent | None:
        """Return a message without answer for *patience_s* although a later one was answered."""
        sent = self._awaited
        if sent is None or now_s - sent.sent_s <= patience_s or sent.place > self._last_answered:
            return None
        return sent

    @property
    def _awaited(self) -> Sent | None:
        """The oldest message whose answer counts, which that of a transient message does not."""
        return next((one for one in self._sent.values() if one.message.kind != "transient"), None)


class RetainedMessages:
    """The latest retained message of each topic, and which are still to be sent.

    Any thread may call.  An empty payload clears what the broker keeps on the topic.

    Args:
        first: Messages that are sent before any other, by topic.
        on_taken: Called with topic and payload of each message that the broker took.
        on_not_cleared: Called with each topic that the broker does not let be cleared.
    """

    def __init__(
        self,
        first: dict[str, bytes],
        on_taken: Callable[[str, bytes], None] = lambda _topic, _payload: None,
        on_not_cleared: Callable[[str], None] = lambda _topic: None,
    ) -> None:
        self._on_taken = on_taken
        self._on_not_cleared = on_not_cleared
        self._lock = threading.Lock()  # never held for long
        self._payloads = dict(first)
        self._unsent = set(first)

    def put(self, topic: str, payload: bytes) -> None:
        """Replace the message on *topic*."""
        with self._lock:
            self._payloads[topic] = payload
            self._unsent.add(topic)

    def items(self) -> list[tuple[str, bytes]]:
        """Return topic and payload of all messages."""
        with self._lock:
            return list(self._payloads.items())

    def unsent(self) -> list[tuple[str, bytes]]:
        """Return topic and payload of those to be sent, in the order their topics first came."""
        with self._lock:
            if not self._unsent:
                return []
            return [item for item in self._payloads.items() if item[0] in self._unsent]

    def sent(self, topic: str, payload: bytes) -> None:
        """Note that *payload* was sent; a payload put meanwhile is still to be sent."""
        with self._lock:
            if self._payloads.get(topic) == payload:
                self._unsent.discard(topic)

    def repeat(self, topic: str) -> None:
        """Have the message on *topic* sent once more."""
        with self._lock:
            if topic in self._payloads:
                self._unsent.add(topic)

    def repeat_all(self) -> None:
        """Have all sent once more: the broker may be another one, or have forgotten them."""
        with self._lock:
            self._unsent = set(self._payloads)

    def taken(self, topic: str, payload: bytes) -> None:
        """Note that the broker took *payload*; a topic that it cleared is forgotten."""
        self._on_taken(topic, payload)
        self._forget_cleared(topic)

    def not_cleared(self, topic: str) -> None:
        """Note that the broker does not let *topic* be cleared; this is not tried again."""
        self._forget_cleared(topic)
        self._on_not_cleared(topic)

    def _forget_cleared(self, topic: str) -> None:
        with self._lock:
            if self._payloads.get(topic) == b"":
                del self._payloads[topic]
                self._unsent.discard(topic)
