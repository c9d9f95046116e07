"""Messages that the broker does not take, and what is to become of them; pure.

A broker that refuses a message says so only in MQTT 5.  Else it ends the connection, or falls
silent, and which of the messages on their way it did not like is found by sending those that were
unanswered one at a time.  What ended a connection alone, twice, is told; it is sent again less and
less often, and holds nobody up but the later events of its own machine, and those not for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edgeasd.publish.mqtt.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from edgeasd.publish.delivery.inflight import Message, Sent

NOT_ALLOWED = "Not authorized"
"""How MQTT 5 says that an access control list denies it."""

_TOLD_AFTER = 2  # connections that ended with it: once may be chance
_FATAL_PATIENCE = 4  # trials after which later events of its machine go first
_REFUSED_PATIENCE = 8
_PASSES_BY_ITSELF = "Quota exceeded"  # such a refusal says nothing of the message
_LONGER = 60  # what ends connections waits so many times longer than what is refused
_FRESH = 10  # so many times the shortest wait a trial that ended a connection tells of the broker
_MUCH_SMALLER = 0.9
_MOST_SUSPECTS = 2000

Kind = Literal["refused", "ended", "silent"]
Verdict = Literal["send", "wait", "pass"]


@dataclass(slots=True)
class Trouble:
    """A message that was not taken.

    Attributes:
        words: What happened, with the remedy; empty while it may be chance.
        topic: Topic that it was published on.
        is_event: Whether it is an event.
        kind: Whether the broker refused it, ended the connection at it or did not answer.
        n_trials: How often it was not taken.
        n_proven: How often of these it was clear that it lies in the message, as others were taken
            over the same connection.
        tried_s: When it was last tried, monotonic seconds.
        retry_at_s: When to try it again.
        size: Bytes of the packet.
    """

    words: str
    topic: str
    is_event: bool
    kind: Kind
    n_trials: int
    n_proven: int
    tried_s: float
    retry_at_s: float
    size: int

    @property
    def is_fatal(self) -> bool:
        """Whether it costs the connection."""
        return self.kind != "refused"


class Troubles:
    """What was not taken, by the key of its message, and what that tells of the broker.

    Args:
        broker: How the broker is called in messages.
        retry_min_s: Seconds before what was not taken is tried again; each further wait is twice
            as long.
        retry_max_s: Longest wait between two trials of what was refused.

    Attributes:
        broker: How the broker is called in messages.
        retry_min_s: Seconds before what was not taken is tried again.
        suspects: Keys of messages one of which ended a connection.
        largest_taken: Bytes of the largest packet that the broker took.
        takes_retained: Whether it takes retained messages; None while not known.
        takes_qos_1: Whether it takes messages at QoS 1; None while not known.
    """

    def __init__(self, broker: str, retry_min_s: float, retry_max_s: float) -> None:
        self.broker = broker
        self.retry_min_s = retry_min_s
        self._retry_max_s = retry_max_s
        self._troubles: dict[str, Trouble] = {}
        self._too_large: dict[str, str] = {}  # words by topic
        self._limits = Limits()
        self._learned: int | None = None  # smallest packet not taken of messages taken since
        self.suspects: set[str] = set()
        self.largest_taken = 0
        self.takes_retained: bool | None = None
        self.takes_qos_1: bool | None = None

    @property
    def words(self) -> list[str]:
        """What is to be told, with the remedies."""
        told = [trouble.words for trouble in self._troubles.values() if trouble.words]
        return [*self._too_large.values(), *told, *self._notes()]

    @property
    def smallest_not_taken(self) -> int | None:
        """Bytes of the packet that seems to be too large for a broker that names no limit."""
        return self._smallest_not_taken()

    def _smallest_not_taken(self, besides: str = "") -> int | None:
        sizes = [
            trouble.size
            for key, trouble in self._troubles.items()
            if key != besides and trouble.is_fatal and trouble.n_proven >= _TOLD_AFTER
        ]
        sizes += [] if self._learned is None else [self._learned]
        return min((size for size in sizes if size > self.largest_taken), default=None)

    @property
    def largest_packet(self) -> int | None:
        """Bytes of the largest packet that the broker takes, as far as is known."""
        announced, not_taken = self._limits.maximum_packet_size, self.smallest_not_taken
        if not_taken is None:
            return announced
        # Nearer to the truth with each trial, from the side that is safe.
        guess = max(self.largest_taken, not_taken // 2)
        return guess if announced is None else min(guess, announced)

    def begin(self, limits: Limits) -> None:
        """Take note of a new connection to a broker that takes what *limits* say."""
        if limits.maximum_packet_size != self._limits.maximum_packet_size:
            self._too_large.clear()
        self._limits = limits
        for trouble in self._troubles.values():
            if not trouble.is_fatal:
                trouble.retry_at_s = 0.0

    def retry_all(self) -> None:
        """Have everything tried again: the broker may have changed."""
        self._learned = None
        for trouble in self._troubles.values():
            trouble.retry_at_s = 0.0

    def __contains__(self, topic: object) -> bool:
        """Return whether an event on *topic* is in trouble."""
        return any(one.is_event and one.topic == topic for one in self._troubles.values())

    def keep_topics(self, topics: Collection[str]) -> None:
        """Forget the events on other topics: none waits there any more."""
        self._forget(lambda _key, trouble: trouble.topic not in topics)

    def keep_events(self, topic: str, event_ids: Collection[str]) -> None:
        """Forget the other events on *topic*: they no longer wait."""
        self._forget(lambda key, trouble: trouble.topic == topic and key not in event_ids)

    def _forget(self, is_gone: Callable[[str, Trouble], bool]) -> None:
        for key, trouble in list(self._troubles.items()):
            if trouble.is_event and is_gone(key, trouble):
                del self._troubles[key]
                self.suspects.discard(key)

    def verdict(self, message: Message, size: int, now_s: float) -> Verdict:
        """Return whether to send *message* now, to wait, or to go on to what is behind it."""
        trouble = self._troubles.get(message.key)
        if trouble is None or now_s >= trouble.retry_at_s:
            return "send"
        if message.kind != "event" and trouble.is_fatal and size < _MUCH_SMALLER * trouble.size:
            return "send"
        patience = _FATAL_PATIENCE if trouble.is_fatal else _REFUSED_PATIENCE
        return "pass" if message.kind == "event" and trouble.n_proven >= patience else "wait"

    def stale(self, keys: Iterable[str], now_s: float) -> str | None:
        """Return the first of *keys* in trouble if the broker may have changed since its trial."""
        key = next((key for key in keys if key in self._troubles), None)
        if key is None:
            return None
        trouble = self._troubles[key]
        fresh_s = self.retry_min_s * (_FRESH if trouble.is_fatal else 1)
        return key if now_s - trouble.tried_s > fresh_s else None

    @property
    def keeps_retained(self) -> bool:
        """Whether the broker keeps retained messages, as far as is known."""
        return self._limits.retain_available and self.takes_retained is not False

    def n_trials(self, key: str) -> int:
        """Return how often a message was not taken."""
        trouble = self._troubles.get(key)
        return 0 if trouble is None else trouble.n_trials

    def is_suspect(self, key: str, size: int) -> bool:
        """Return whether a message may end the connection, and so is to be sent alone."""
        trouble = self._troubles.get(key)
        bound = self.smallest_not_taken
        return (
            key in self.suspects
            or (trouble is not None and trouble.is_fatal)
            or (bound is not None and size >= bound)
        )

    def flags(self, message: Message) -> tuple[int, bool]:
        """Return the quality of service of *message*, and whether the broker shall keep it.

        A broker that names no limits may yet end the connection at every retained message, or at
        every one at QoS 1.  Where it never took any such, what ended connections is tried without.
        """
        qos = 0 if message.kind == "passing" or self.takes_qos_1 is False else 1
        retain = message.kind == "standing" and self.takes_retained is not False
        trouble = self._troubles.get(message.key)
        # An event is no trial: at QoS 0 it would be lost where the broker only pretends to read.
        if (
            message.kind == "standing"
            and trouble is not None
            and trouble.kind == "ended"
            and trouble.n_trials >= _TOLD_AFTER
        ):
            trial = (trouble.n_trials - _TOLD_AFTER) % 3
            retain = retain and (self.takes_retained is True or trial == 1)
            qos = qos if self.takes_qos_1 is True or trial == 0 else 0
        return min(qos, self._limits.maximum_qos), retain and self._limits.retain_available

    def suspect(self, messages: Iterable[Sent]) -> None:
        """Take note of messages one of which ended the connection."""
        self.suspects |= {sent.message.key for sent in messages}
        if len(self.suspects) > _MOST_SUSPECTS:  # of events that were dropped since, above all
            self.suspects.clear()

    def accuse(self, sent: Sent, kind: Kind, now_s: float, *, proven: bool) -> None:
        """Take note that the broker ended the connection at a message, or did not answer it.

        Args:
            sent: The message; no other was on its way.
            kind: Which of the two.
            now_s: Monotonic seconds.
            proven: Whether other messages were taken over the same connection.
        """
        bound = self._smallest_not_taken(besides=sent.message.key)
        is_as_large = bound is not None and sent.size >= bound
        trouble = self._note(sent, kind, now_s, proven=proven)
        if is_as_large and proven:
            trouble.n_proven = max(trouble.n_proven, _FATAL_PATIENCE)
        if trouble.n_proven >= _TOLD_AFTER and not trouble.words:
            what = "ends the connection at" if kind == "ended" else "does not acknowledge"
            remedy = (
                f"the largest that it took has {self.largest_taken}; raise its limit"
                if sent.size > self.largest_taken
                else "see in its log why"
            )
            topic = sent.message.topic
            trouble.words = (
                f"{self.broker} {what} a message of {sent.size} bytes on {topic}; {remedy}"
            )

    def refuse(self, sent: Sent, reason: str, now_s: float) -> None:
        """Take note that the broker refused a message."""
        trouble = self._note(sent, "refused", now_s, proven=reason != _PASSES_BY_ITSELF)
        if f"({reason})" not in trouble.words:
            remedy = (
                "check its access control list"
                if reason == NOT_ALLOWED
                else f"it has {sent.size} bytes and is tried again"
            )
            topic = sent.message.topic
            trouble.words = f"{self.broker} refuses messages on {topic} ({reason}); {remedy}"

    def leave_out(self, message: Message, size: int, limit: int) -> None:
        """Take note that a message is larger than the broker says it takes."""
        self._too_large.setdefault(
            message.topic,
            f"a message of {size} bytes on {message.topic} is not sent: {self.broker} takes at "
            f"most {limit}; raise its limit",
        )

    def accept(self, sent: Sent) -> None:
        """Take note that the broker took a message."""
        message = sent.message
        if message.key in self._troubles:
            self._learned = self.smallest_not_taken
        trouble = self._troubles.pop(message.key, None)
        self.suspects.discard(message.key)
        self._too_large.pop(message.topic, None)
        self.largest_taken = max(self.largest_taken, sent.size)
        # At QoS 0 a packet is two bytes smaller.
        if trouble is not None and trouble.is_fatal and sent.size + 2 >= trouble.size:
            self._learn(sent)
            self.retry_all()
        if sent.qos:
            self.takes_qos_1 = True
        if sent.retain:
            self.takes_retained = True

    def _learn(self, sent: Sent) -> None:
        """Take note of how the broker took what had ended connections before."""
        if sent.message.kind != "passing" and sent.qos == 0 and self.takes_qos_1 is None:
            self.takes_qos_1 = False
        if sent.message.kind == "standing" and not sent.retain and self.takes_retained is None:
            self.takes_retained = False

    def _note(self, sent: Sent, kind: Kind, now_s: float, *, proven: bool) -> Trouble:
        """Count a trial in vain, and say when the next one is due."""
        message = sent.message
        self.suspects.discard(message.key)
        before = self._troubles.get(message.key)
        if before is None or before.is_fatal != (kind != "refused"):
            before = Trouble("", message.topic, message.kind == "event", kind, 0, 0, 0.0, 0.0, 0)
        longest_s = self._retry_max_s * (_LONGER if proven and kind != "refused" else 1)
        delay_s = min(self.retry_min_s * 2.0 ** min(before.n_trials, 40), longest_s)
        trouble = replace(
            before,
            kind=kind,
            n_trials=before.n_trials + 1,
            n_proven=before.n_proven + proven,
            tried_s=now_s,
            retry_at_s=now_s + delay_s,
            size=sent.size,
        )
        self._troubles[message.key] = trouble
        return trouble

    def _notes(self) -> list[str]:
        """Return in words which qualities of messages the broker does not have."""
        notes = []
        if not self.keeps_retained:
            notes.append(
                f"{self.broker} keeps no retained messages: who subscribes later learns no state "
                "until it is told anew; allow them at the broker"
            )
        if self._limits.maximum_qos == 0 or self.takes_qos_1 is False:
            notes.append(
                f"{self.broker} takes messages at QoS 0 only: an alert counts as delivered when "
                "it answers a ping sent after it; allow QoS 1 at the broker"
            )
        return notes
