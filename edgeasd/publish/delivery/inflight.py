"""What was sent over one connection and not answered yet; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way to the broker.

    Attributes:
        kind: An event from the outbox, a standing message, or a passing one.
        topic: Topic to publish on.
        payload: What is said.
        event_id: Name of the event; empty unless it is one.
        passed_over: Older events of the same machine that no longer have a place once this one
            has arrived.
    """

    kind: Literal["event", "standing", "passing"]
    topic: str
    payload: bytes
    event_id: str = ""
    passed_over: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name under which its fate is remembered."""
        return self.event_id or self.topic


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it was sent.

    Attributes:
        message: The message.
        size: Bytes of the packet.
        qos: Quality of service.
        retain: Whether the broker was asked to keep it.
        sent_s: When, monotonic seconds.
        place: Place in the order of sending, from 1.
    """

    message: Message
    size: int
    qos: int
    retain: bool
    sent_s: float
    place: int


class InFlight:
    """Messages by the numbers that the connection gave; no topic has two; times are monotonic."""

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
        """Return how many at QoS 1 there are of *kinds*: the broker takes so many at once."""
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
        """Return for how long nothing was answered though an answer is awaited."""
        return 0.0 if self._awaited is None else now_s - self._progress_s

    def skipped(self, now_s: float, patience_s: float) -> Sent | None:
        """Return what was not answered within *patience_s* though something sent later was."""
        sent = self._awaited
        if sent is None or now_s - sent.sent_s <= patience_s or sent.place > self._last_answered:
            return None
        return sent

    @property
    def _awaited(self) -> Sent | None:
        """The oldest message whose answer counts; nobody waits for a passing one."""
        return next((one for one in self._sent.values() if one.message.kind != "passing"), None)
