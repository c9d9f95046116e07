"""The states of machines: told when they are news, and no more often than people can bear."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edgeasd.common.clock import since_boot_s
from edgeasd.publish.payloads.encoding import encode
from edgeasd.publish.payloads.state import State, state_payload

MOST_A_MINUTE = 6
"""State messages of one machine."""
RESERVED = 1
"""Of them, for an alarm that comes or goes, and for the last words."""
_MINUTE_S = 60.0


class Allowance:
    """Bounds how many messages go out in any minute; pure.

    Args:
        most: Messages in a minute.
        reserved: Messages among them that are kept for what is urgent.
    """

    def __init__(self, most: int, reserved: int) -> None:
        self._most = most
        self._reserved = reserved
        self._taken_s: deque[float] = deque(maxlen=most)

    def take(self, now_s: float, *, urgent: bool) -> bool:
        """Return whether a message may go out at *now_s*; it is counted then."""
        n_lately = sum(now_s - taken_s < _MINUTE_S for taken_s in self._taken_s)
        if n_lately >= self._most - (0 if urgent else self._reserved):
            return False
        self._taken_s.append(now_s)
        return True


@dataclass(frozen=True, slots=True)
class Condition:
    """How a machine is, as far as a change of it is news.

    Attributes:
        state: How it is.
        reason: Why, in words; empty when all is well.
        event_id: The event that last changed the alarm, if any did.
        threshold: Score at which the alarm is raised; None without a model.
    """

    state: State
    reason: str
    event_id: str | None = None
    threshold: float | None = None


class StateReporter:
    """Publishes the state of one machine when it changes.

    What flaps is told a few times a minute: what is not told at once is told once a minute allows
    it, unless it has passed.

    Args:
        node: Name of this computer.
        machine: Name of the machine.
        publish: Takes the bytes of each message.

    Attributes:
        told: Condition as last published; None before.
    """

    def __init__(self, node: str, machine: str, publish: Callable[[bytes], None]) -> None:
        self._node = node
        self._machine = machine
        self._publish = publish
        self._allowance = Allowance(MOST_A_MINUTE, RESERVED)
        self._is_wanted_again = False
        self._since_s = since_boot_s()
        self.told: Condition | None = None

    def repeat(self) -> None:
        """Have the state told again, news or not, as to a broker that never heard it."""
        self._is_wanted_again = True

    def forget(self) -> None:
        """Take note that what was told is taken back: the machine is no longer listened to."""
        self.told = None

    def tell(self, condition: Condition, score: float | None, *, last: bool = False) -> bool:
        """Publish *condition* if it is news and the minute allows it; return whether it did.

        Args:
            condition: How the machine is now.
            score: The latest score, if there is one.
            last: Whether there is no later chance to tell it.
        """
        told = self.told
        if condition == told and not self._is_wanted_again:
            return False
        urgent = told is not None and (condition.state == "alarm") != (told.state == "alarm")
        may_be_told = self._allowance.take(time.monotonic(), urgent=urgent or last)
        if not (may_be_told or self._is_wanted_again):
            return False
        if told is None or condition.state != told.state:
            self._since_s = since_boot_s()
        self.told, self._is_wanted_again = condition, False
        self._publish(self._payload(condition, score))
        return True

    def _payload(self, condition: Condition, score: float | None) -> bytes:
        payload = state_payload(
            node=self._node,
            machine=self._machine,
            state=condition.state,
            # From now back: the wall clock may have been set since.
            since_s=max(0.0, time.time() - (since_boot_s() - self._since_s)),
            event_id=condition.event_id,
            score=score,
            threshold=condition.threshold,
            reason=condition.reason,
        )
        return encode(payload)
