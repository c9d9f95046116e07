"""Messages sent at QoS 1 and not answered yet, and those that the broker refused; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    event_id: str | None  # None of a retained state


class InFlight:
    """What one connection has sent, by the numbers that it gave; times are monotonic seconds.

    Args:
        retry_min_s: Seconds before what was refused is tried again; each further wait is twice
            as long.
        retry_max_s: Longest wait between two trials.
    """

    def __init__(self, retry_min_s: float, retry_max_s: float) -> None:
        self._retry_min_s = self._delay_s = retry_min_s
        self._retry_max_s = retry_max_s
        self._messages: dict[int, _Message] = {}
        self._refused: dict[str, str] = {}
        self._retry_at_s = 0.0
        self._progress_s = 0.0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def event_ids(self) -> set[str]:
        """Events among the messages."""
        messages = self._messages.values()
        return {message.event_id for message in messages if message.event_id is not None}

    @property
    def refused(self) -> dict[str, str]:
        """Why the broker refused what was last sent on a topic, by topic."""
        return dict(self._refused)

    def reset(self) -> None:
        """Forget everything: a new connection shares nothing with the one before."""
        self._messages.clear()
        self._refused.clear()
        self._delay_s = self._retry_min_s

    def add(self, number: int, topic: str, event_id: str | None, now_s: float) -> None:
        """Note a message that was sent, as *number*; a retained state has no event."""
        if event_id is not None and not self.event_ids:
            self._progress_s = now_s
        self._messages[number] = _Message(topic, event_id)

    def settle(self, answers: Iterable[tuple[int, str]], now_s: float) -> list[str]:
        """Take *answers*, number and refusal, and return the events that the broker has taken."""
        taken: list[str] = []
        for number, refusal in answers:
            message = self._messages.pop(number, None)
            if message is None:
                continue
            if message.event_id is not None:
                self._progress_s = now_s
            if refusal:
                self._refuse(message.topic, refusal, now_s)
            else:
                self._accept(message.topic)
                taken += [message.event_id] if message.event_id is not None else []
        return taken

    def stalled_s(self, now_s: float) -> float:
        """Return for how long no event was answered though one was sent."""
        return now_s - self._progress_s if self.event_ids else 0.0

    def is_retry_due(self, now_s: float) -> bool:
        """Return whether to send now what was refused; if so, the next time is later."""
        if not self._refused or now_s < self._retry_at_s:
            return False
        self._postpone(now_s)
        return True

    def _refuse(self, topic: str, reason: str, now_s: float) -> None:
        if not self._refused:
            self._postpone(now_s)
        self._refused[topic] = reason

    def _accept(self, topic: str) -> None:
        self._refused.pop(topic, None)
        if not self._refused:
            self._delay_s = self._retry_min_s

    def _postpone(self, now_s: float) -> None:
        self._retry_at_s = now_s + self._delay_s
        self._delay_s = min(2 * self._delay_s, self._retry_max_s)
