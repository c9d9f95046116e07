"""Which messages are sent over one connection, in which order, and what the answers mean.

Events come first.  Each machine has one event on its way at a time, so that they arrive in order
whatever the broker refuses; those of other machines go on meanwhile.  Retained messages (states,
health) never take the last place that the broker has for unanswered messages.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from edgeasd.common.errors import BrokerError
from edgeasd.publish.delivery.messages import InFlight, Message, RetainedMessages, Sent
from edgeasd.publish.delivery.troubles import NOT_ALLOWED

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from edgeasd.publish.delivery.troubles import Troubles
    from edgeasd.publish.mqtt.connection import Connection
    from edgeasd.publish.outbox.event_file import QueuedEvent
    from edgeasd.publish.outbox.outbox import Outbox

MAX_IN_FLIGHT = 20
"""Most events sent and not acknowledged.  So many may be sent twice if the connection breaks."""

_MOST_PASSED_OVER = 200  # events of one machine; of more, the oldest are given up
_ALONE_SHARE = 0.1
"""For this part of the patience for an answer a suspect message stays the only one on its way.  A
broker that ends the connection at it does so soon."""


class Delivery:
    """Sends the messages that wait over one connection.

    Args:
        connection: The connection, just accepted.
        outbox: Events to send.
        retained: Retained messages to send.
        transient: Topic and payload of messages that are of no use later, oldest first.
        troubles: What the broker did not take over earlier connections.
        acknowledge_s: Seconds without an answer after which the connection is given up.

    Attributes:
        n_taken: Messages that the broker took.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        outbox: Outbox,
        retained: RetainedMessages,
        transient: deque[tuple[str, bytes]],
        troubles: Troubles,
        acknowledge_s: float,
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._retained = retained
        self._transient = transient
        self._troubles = troubles
        self._acknowledge_s = acknowledge_s
        self._in_flight = InFlight()
        self._rests_until_s: dict[str, float] = {}
        self._alone_until_s = 0.0
        self._skipped: Sent | None = None
        self.n_taken = 0
        troubles.begin(connection.limits)
        retained.repeat_all()

    def send(self) -> None:
        """Send what may be sent now, and a ping where only its answer tells what was read."""
        now_s = time.monotonic()
        if len(self._in_flight) == 0 or now_s > self._alone_until_s:
            waiting = [*self._events(now_s), *self._retained_messages(now_s)]
            ordinary = [one for one in waiting if not self._is_suspect(one)]
            transient = list(self._transient_messages(now_s))
            suspects = [one for one in [*waiting, *transient] if self._is_suspect(one)]
            self._send_together(ordinary, now_s)
            if not suspects:
                self._send_together(transient, now_s)
            elif not ordinary:  # these go first: if taken, the suspect is at fault, not the broker
                self._send_alone(min(suspects, key=self._suspicion), now_s)
        if any(
            one.qos == 0 and one.message.kind != "transient" for one in self._in_flight.unanswered
        ):
            self._connection.ping()

    def settle(self) -> None:
        """Take the broker's answers.

        Raises:
            BrokerError: If it gives none for too long.
        """
        now_s = time.monotonic()
        self._take_answers(now_s)
        self._skipped = self._in_flight.skipped(now_s, self._acknowledge_s)
        if self._skipped is not None:
            raise BrokerError(f"{self._troubles.broker} does not acknowledge every message")
        if self._in_flight.stalled_s(now_s) > self._acknowledge_s:
            raise BrokerError(f"{self._troubles.broker} acknowledges nothing")

    def send_last(self, topic: str, payload: bytes, timeout_s: float) -> bool:
        """Send a retained message after all others, and return whether it was taken in time."""
        end_s = time.monotonic() + timeout_s
        self._retained.put(topic, payload)
        while (left_s := end_s - time.monotonic()) > 0:
            self.send()
            self._connection.serve(left_s)
            self.settle()
            if topic not in self._in_flight and topic not in dict(self._retained.unsent()):
                return True
        return False

    def ended(self, *, by_broker: bool) -> bool:
        """Find out which message ended the connection; return whether one is to blame.

        Args:
            by_broker: Whether the broker ended the connection; otherwise it did not answer, or
                not readably.
        """
        now_s = time.monotonic()
        self._take_answers(now_s)  # which may have come just before the end
        unanswered = self._in_flight.unanswered
        if self._skipped is not None or len(unanswered) == 1:
            culprit = self._skipped or unanswered[0]
            self._troubles.accuse(
                culprit, "ended" if by_broker else "silent", now_s, proven=self.n_taken > 0
            )
            return self.n_taken > 0
        self._troubles.suspect(unanswered)
        if not unanswered:
            self._troubles.retry_all()
        return False

    def _send_alone(self, message: Message, now_s: float) -> None:
        if len(self._in_flight):
            self._connection.ping()  # perhaps only a transient message is awaited
        elif not self._connection.is_congested:
            self._alone_until_s = now_s + _ALONE_SHARE * self._acknowledge_s
            self._send(message, now_s)
            self._connection.ping()

    def _send_together(self, waiting: list[Message], now_s: float) -> None:
        for message in waiting:
            if self._connection.is_congested:
                return
            if self._has_place(message):
                self._send(message, now_s)

    def _has_place(self, message: Message) -> bool:
        if message.kind == "transient":
            return True
        most = self._connection.limits.receive_maximum
        if self._in_flight.count("event", "retained") >= most:
            return False
        if message.kind == "event":
            return self._in_flight.count("event") < MAX_IN_FLIGHT
        # The last place is for an event, unless it is the only one.
        return self._in_flight.count("retained") < min(MAX_IN_FLIGHT, max(1, most - 1))

    def _send(self, message: Message, now_s: float) -> None:
        qos, retain = self._troubles.flags(message)
        size = self._size(message)
        if message.kind == "retained":
            self._retained.sent(message.topic, message.payload)
        elif message.kind == "transient":
            self._drop(message)
        try:
            number = self._connection.publish(
                message.topic, message.payload, qos=qos, retain=retain
            )
        except ValueError as exc:  # not a topic that can be published on
            sent = Sent(message, size, qos, retain, now_s, 0)
            self._troubles.refuse(sent, str(exc), now_s)
        else:
            self._in_flight.add(number, message, size=size, qos=qos, retain=retain, now_s=now_s)

    def _take_answers(self, now_s: float) -> None:
        delivered: list[str] = []
        for number, refusal in self._connection.answers():
            sent = self._in_flight.settle(number, now_s)
            if sent is None:
                continue
            if refusal == NOT_ALLOWED and sent.message.payload == b"":
                # Perhaps an account that this node no longer has wrote it.  No alert is affected.
                self._retained.not_cleared(sent.message.topic)
            elif refusal:
                self._troubles.refuse(sent, refusal, now_s)
                self._retained.repeat(sent.message.topic)
            else:
                delivered += self._accept(sent)
        if len(self._in_flight) == 0:
            self._alone_until_s = 0.0
        if delivered:
            self._outbox.remove(*delivered)

    def _accept(self, sent: Sent) -> list[str]:
        """Take note that a message arrived, and return its event id, if it is an event."""
        message = sent.message
        self._troubles.accept(sent)
        self.n_taken += 1
        if message.kind == "retained":
            self._retained.taken(message.topic, message.payload)
        if message.passed_over:
            self._outbox.give_up(
                message.passed_over, "the broker does not take them, and a later one has arrived"
            )
        return [message.event_id] if message.kind == "event" else []

    def _events(self, now_s: float) -> Iterator[Message]:
        """Yield the next event of each machine that may go, the oldest first."""
        heads = self._outbox.heads()
        self._troubles.keep_topics({head.topic for head in heads})
        for head in heads:
            if head.topic in self._in_flight or now_s < self._rests_until_s.get(head.topic, 0.0):
                continue
            queue = [head]
            if head.topic in self._troubles or self._verdict(head, now_s) != "send":
                queue = self._outbox.pending(_MOST_PASSED_OVER + 1, head.topic)
                self._troubles.keep_events(head.topic, {event.event_id for event in queue})
            found = self._next_of(queue, now_s)
            if not found:  # spare the disk: do not read this queue again at once
                self._rests_until_s[head.topic] = now_s + self._troubles.retry_min_s
            yield from found

    def _next_of(self, queue: list[QueuedEvent], now_s: float) -> list[Message]:
        """Return the next event of one machine, if one may go."""
        verdicts = [self._verdict(event, now_s) for event in queue]
        n_passed = next((n for n, verdict in enumerate(verdicts) if verdict != "pass"), len(queue))
        passed = tuple(event.event_id for event in queue[:n_passed])
        if n_passed > _MOST_PASSED_OVER:
            too_many = passed[: _MOST_PASSED_OVER // 2]
            self._outbox.give_up(too_many, f"the broker takes none of {n_passed} of a machine")
        if n_passed == len(queue) or verdicts[n_passed] == "wait":
            return []
        # Once a later event has arrived these come too late, so they are tried again before it.
        stale = self._troubles.stale(passed, now_s)
        if stale is not None:
            return [_message(event) for event in queue if event.event_id == stale]
        return [_message(queue[n_passed], passed)]

    def _verdict(self, event: QueuedEvent, now_s: float) -> str:
        return self._judge(_message(event), now_s)

    def _retained_messages(self, now_s: float) -> Iterator[Message]:
        for topic, payload in self._retained.unsent():
            message = Message("retained", topic, payload)
            if payload == b"" and not self._troubles.keeps_retained:
                self._retained.sent(topic, payload)
                self._retained.taken(topic, payload)  # where nothing is kept, nothing is to clear
            elif topic not in self._in_flight and self._judge(message, now_s) == "send":
                yield message

    def _transient_messages(self, now_s: float) -> Iterator[Message]:
        for topic, payload in list(self._transient):
            message = Message("transient", topic, payload)
            if self._judge(message, now_s) == "send":
                yield message
            else:
                self._drop(message)

    def _drop(self, transient: Message) -> None:
        with contextlib.suppress(ValueError):  # it may have made room for newer ones meanwhile
            self._transient.remove((transient.topic, transient.payload))

    def _judge(self, message: Message, now_s: float) -> str:
        """Return whether to send *message* now, to wait, or to pass it over for later ones."""
        size, limit = self._size(message), self._connection.limits.maximum_packet_size
        if limit is not None and size > limit:
            self._troubles.leave_out(message, size, limit)
            return "pass"
        return self._troubles.verdict(message, size, now_s)

    def _suspicion(self, message: Message) -> tuple[int, int]:
        """Return the rank of a message among the suspects: the lowest is sent first."""
        if self.n_taken == 0:
            # Perhaps the broker takes nothing at all: the cheapest message tells.
            return int(message.kind != "retained"), self._size(message)
        return self._troubles.n_trials(message.key), 0

    def _is_suspect(self, message: Message) -> bool:
        return self._troubles.is_suspect(message.key, self._size(message))

    def _size(self, message: Message) -> int:
        qos = self._troubles.flags(message)[0]
        return self._connection.packet_size(message.topic, message.payload, qos=qos)


def _message(event: QueuedEvent, passed_over: tuple[str, ...] = ()) -> Message:
    return Message("event", event.topic, event.payload, event.event_id, passed_over)
