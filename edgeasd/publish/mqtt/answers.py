"""Which of the messages sent over one connection the broker has read.

It acknowledges those at QoS 1.  Since it reads a connection in order, it has read those at QoS 0
when it answers a ping, or acknowledges a message, that was sent after them.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile


class Answers:
    """Numbers of the messages sent, until they are answered."""

    def __init__(self) -> None:
        self._n_sent = 0
        self._acknowledged: dict[int, int] = {}  # at QoS 1: place in the order of sending
        self._silent: dict[int, int] = {}  # at QoS 0
        self._pings: deque[int] = deque()
        self._answers: list[tuple[int, str]] = []

    @property
    def needs_ping(self) -> bool:
        """Whether a message at QoS 0 was sent after the latest ping on its way."""
        latest = next(reversed(self._silent.values()), 0)
        return latest > (self._pings[-1] if self._pings else 0)

    def sent(self, number: int, qos: int) -> None:
        """Note that a message was sent."""
        self._n_sent += 1
        # The library counts to 65,535 and then starts again at 1.
        self._acknowledged.pop(number, None)
        self._silent.pop(number, None)
        (self._acknowledged if qos else self._silent)[number] = self._n_sent

    def pinged(self) -> None:
        """Note that a ping was sent."""
        self._n_sent += 1
        self._pings.append(self._n_sent)

    def ping_answered(self) -> None:
        """Note that the oldest ping was answered."""
        if self._pings:
            self._confirm_before(self._pings.popleft())

    def acknowledged(self, number: int, refusal: str) -> None:
        """Note that a message at QoS 1 was answered; *refusal* is empty if it was taken."""
        place = self._acknowledged.pop(number, None)
        if place is not None:
            self._confirm_before(place)
            self._answers.append((number, refusal))

    def take(self) -> list[tuple[int, str]]:
        """Return the numbers answered since the last call, in order, each with its refusal."""
        answers, self._answers = self._answers, []
        return answers

    def _confirm_before(self, place: int) -> None:
        read = list(takewhile(lambda sent: sent[1] < place, self._silent.items()))
        for number, _ in read:
            del self._silent[number]
        self._answers += [(number, "") for number, _ in read]
