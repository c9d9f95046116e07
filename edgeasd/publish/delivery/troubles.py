"""Messages that the broker does not take, and when each is tried again.

Only a broker of MQTT 5 says that it refuses a message.  Others end the connection, or stop
answering.  Which message was the reason is then found by sending the unanswered ones one at a time.
A message that twice ended a connection alone is reported.  It is tried again less and less often,
and delays only the later events of its own machine, and those not for ever.

No network and no clock: times are handed in, monotonic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edgeasd.publish.delivery.capabilities import Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from edgeasd.publish.delivery.messages import Message, Sent
    from edgeasd.publish.mqtt.limits import Limits

NOT_ALLOWED = "Not authorized"
"""Reason that MQTT 5 gives where an access control list denies a message."""

_REPORTED_AFTER = 2  # ended connections: a single one may be chance
_FATAL_PATIENCE = 4  # ended connections after which later events of the machine go first
_REFUSED_PATIENCE = 8  # refusals after which later events of the machine go first
_PASSES_BY_ITSELF = "Quota exceeded"  # a refusal that says nothing about the message
_LONGER = 60  # longest wait after an ended connection, in longest waits after a refusal
_FRESH = 10  # shortest waits after which the broker may have changed since it ended a connection
_MUCH_SMALLER = 0.9  # share of the size of a message that ended the connection
_MOST_SUSPECTS = 2000

Kind = Literal["refused", "ended", "silent"]
Verdict = Literal["send", "wait", "pass"]


@dataclass(slots=True)
class Trouble:
    """A message that was not taken.

    Attributes:
        words: What happened, with the remedy; empty while it may be chance.
        topic: Topic that the message was published on.
        is_event: Whether the message is an event.
        kind: Whether the broker refused it, ended the connection at it or did not answer it.
        n_trials: How often it was not taken.
        n_proven: How often the message itself was the reason, since others were taken over the
            same connection.
        tried_s: When it was last tried, monotonic seconds.
        retry_at_s: When to try it again, monotonic seconds.
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
        """Whether sending the message costs the connection."""
        return self.kind != "refused"


class Troubles:
    """Messages not taken, by their keys, and what they tell about the broker.

    Args:
        broker: What the broker is called in messages to people.
        retry_min_s: Seconds before a message is tried again; each further wait is twice as long.
        retry_max_s: Longest wait between two trials of a message that was refused.

    Attributes:
        broker: What the broker is called in messages to people.
        retry_min_s: Seconds before a message is tried again.
        suspects: Keys of messages one of which ended a connection.
    """

    def __init__(self, broker: str, retry_min_s: float, retry_max_s: float) -> None:
        self.broker = broker
        self.retry_min_s = retry_min_s
        self._retry_max_s = retry_max_s
        self._troubles: dict[str, Trouble] = {}
        self._too_large: dict[str, str] = {}  # words by topic
        self._capabilities = Capabilities()
        self._learned: int | None = None  # smallest packet not taken of messages taken since
        self.suspects: set[str] = set()

    @property
    def words(self) -> list[str]:
        """What to report, with the remedies."""
        reported = [trouble.words for trouble in self._troubles.values() if trouble.words]
        return [*self._too_large.values(), *reported, *self._capabilities.faults(self.broker)]

    @property
    def smallest_not_taken(self) -> int | None:
        """Bytes of the smallest packet that seems too large, where no limit is announced."""
        return self._smallest_not_taken()

    def _smallest_not_taken(self, besides: str = "") -> int | None:
        sizes = [
            trouble.size
            for key, trouble in self._troubles.items()
            if key != besides and trouble.is_fatal and trouble.n_proven >= _REPORTED_AFTER
        ]
        sizes += [] if self._learned is None else [self._learned]
        largest_taken = self._capabilities.largest_taken
        return min((size for size in sizes if size > largest_taken), default=None)

    @property
    def largest_packet(self) -> int | None:
        """Bytes of the largest packet that the broker takes, as far as is known."""
        announced, not_taken = (
            self._capabilities.limits.maximum_packet_size,
            self.smallest_not_taken,
        )
        if not_taken is None:
            return announced
        # Approaches the limit with each trial, from below.
        guess = max(self._capabilities.largest_taken, not_taken // 2)
        return guess if announced is None else min(guess, announced)

    @property
    def keeps_retained(self) -> bool:
        """Whether the broker keeps retained messages, as far as is known."""
        return self._capabilities.keeps_retained

    def begin(self, limits: Limits) -> None:
        """Take note of a new connection to a broker that announces *limits*."""
        if limits.maximum_packet_size != self._capabilities.limits.maximum_packet_size:
            self._too_large.clear()
        self._capabilities.limits = limits
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
        """Forget the events on topics other than *topics*, on which none waits any more."""
        self._forget(lambda _key, trouble: trouble.topic not in topics)

    def keep_events(self, topic: str, event_ids: Collection[str]) -> None:
        """Forget the events on *topic* other than *event_ids*, which no longer wait."""
        self._forget(lambda key, trouble: trouble.topic == topic and key not in event_ids)

    def _forget(self, is_gone: Callable[[str, Trouble], bool]) -> None:
        for key, trouble in list(self._troubles.items()):
            if trouble.is_event and is_gone(key, trouble):
                del self._troubles[key]
                self.suspects.discard(key)

    def verdict(self, message: Message, size: int, now_s: float) -> Verdict:
        """Return whether to send *message* now, to wait, or to pass it over for later ones."""
        trouble = self._troubles.get(message.key)
        if trouble is None or now_s >= trouble.retry_at_s:
            return "send"
        if message.kind != "event" and trouble.is_fatal and size < _MUCH_SMALLER * trouble.size:
            return "send"
        patience = _FATAL_PATIENCE if trouble.is_fatal else _REFUSED_PATIENCE
        return "pass" if message.kind == "event" and trouble.n_proven >= patience else "wait"

    def stale(self, keys: Iterable[str], now_s: float) -> str | None:
        """Return the first of *keys* that is in trouble if the broker may have changed since."""
        key = next((key for key in keys if key in self._troubles), None)
        if key is None:
            return None
        trouble = self._troubles[key]
        fresh_s = self.retry_min_s * (_FRESH if trouble.is_fatal else 1)
        return key if now_s - trouble.tried_s > fresh_s else None

    def n_trials(self, key: str) -> int:
        """Return how often the message *key* was not taken."""
        trouble = self._troubles.get(key)
        return 0 if trouble is None else trouble.n_trials

    def is_suspect(self, key: str, size: int) -> bool:
        """Return whether a message may end the connection, and so must be sent alone."""
        trouble = self._troubles.get(key)
        bound = self.smallest_not_taken
        return (
            key in self.suspects
            or (trouble is not None and trouble.is_fatal)
            or (bound is not None and size >= bound)
        )

    def flags(self, message: Message) -> tuple[int, bool]:
        """Return the quality of service of *message*, and whether to ask the broker to keep it."""
        trouble = self._troubles.get(message.key)
        ends = (
            trouble is not None and trouble.kind == "ended" and trouble.n_trials >= _REPORTED_AFTER
        )
        n_ends = trouble.n_trials - _REPORTED_AFTER if trouble is not None and ends else None
        return self._capabilities.flags(message, n_ends)

    def suspect(self, messages: Iterable[Sent]) -> None:
        """Take note of messages one of which ended the connection."""
        self.suspects |= {sent.message.key for sent in messages}
        if len(self.suspects) > _MOST_SUSPECTS:  # mostly events that were dropped since
            self.suspects.clear()

    def accuse(self, sent: Sent, kind: Kind, now_s: float, *, proven: bool) -> None:
        """Take note that the broker ended the connection at a message, or did not answer it.

        Args:
            sent: The message; no other was on its way.
            kind: Which of the two happened.
            now_s: The time now, monotonic seconds.
            proven: Whether other messages were taken over the same connection.
        """
        bound = self._smallest_not_taken(besides=sent.message.key)
        is_as_large = bound is not None and sent.size >= bound
        trouble = self._note(sent, kind, now_s, proven=proven)
        if is_as_large and proven:
            trouble.n_proven = max(trouble.n_proven, _FATAL_PATIENCE)
        if trouble.n_proven >= _REPORTED_AFTER and not trouble.words:
            largest_taken = self._capabilities.largest_taken
            what = "ends the connection at" if kind == "ended" else "does not acknowledge"
            remedy = (
                f"the largest that it took has {largest_taken}; raise its limit"
                if sent.size > largest_taken
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
        # At QoS 0 a packet is two bytes smaller.
        was_fatal = trouble is not None and trouble.is_fatal and sent.size + 2 >= trouble.size
        self._capabilities.accept(sent, ended_before=was_fatal)
        if was_fatal:
            self.retry_all()

    def _note(self, sent: Sent, kind: Kind, now_s: float, *, proven: bool) -> Trouble:
        """Count a trial that failed, and set the time of the next one."""
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
