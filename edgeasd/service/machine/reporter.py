"""What one machine tells over MQTT: its events, its scores, and its state when that is news."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edgeasd.common.clock import clock_synchronized, since_boot_s
from edgeasd.common.types import AlarmEvent, Score
from edgeasd.models.detector import Detector
from edgeasd.publish.clips.folder import clip_name
from edgeasd.publish.payloads.encoding import StreamClock, encode
from edgeasd.publish.payloads.event import AudioQuality, event_id, event_payload
from edgeasd.publish.payloads.fields import ModelIdentity
from edgeasd.publish.payloads.score import score_payload
from edgeasd.publish.payloads.state import State, state_payload
from edgeasd.service.node import Node, put_event

MOST_A_MINUTE = 6
"""State messages of one machine in any minute: more than people can read is no news."""
RESERVED = 1
"""State messages of those that are kept for an alarm that comes or goes, and for the last one."""
_MINUTE_S = 60.0
_log = logging.getLogger(__name__)


class Allowance:
    """Bounds the number of messages in any minute; reads no clock.

    Args:
        most: Messages in a minute.
        reserved: Messages of those that are kept for urgent ones.
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
    """The state of a machine with everything whose change is news.

    Attributes:
        state: State of the machine.
        reason: Why it is in that state, in words; empty when all is well.
        event_id: Id of the event that last changed the alarm; None if none did.
        threshold: Score at which the alarm is raised; None without a model.
    """

    state: State
    reason: str
    event_id: str | None = None
    threshold: float | None = None


class Reporter:
    """Publishes events, scores and states of one machine.

    A state that flaps is published a few times a minute.  A change that is held back is published
    once a minute allows it, unless the state has changed back by then.

    Args:
        node: What all machines of the daemon share.
        machine: Name of the machine.

    Attributes:
        told: Condition as last published; None before the first one.
    """

    def __init__(self, node: Node, machine: str) -> None:
        self._node = node
        self._machine = machine
        self._topic = node.topics.event(machine)
        last = node.last_event(self._topic)
        self._event_id: str | None = None if last is None else last.payload["id"]
        self._allowance = Allowance(MOST_A_MINUTE, RESERVED)
        self._is_wanted_again = False
        self._since_s = since_boot_s()
        self.told: Condition | None = None

    @property
    def state(self) -> State:
        """State as last published."""
        return "learning" if self.told is None else self.told.state

    @property
    def reason(self) -> str:
        """Reason as last published."""
        return "" if self.told is None else self.told.reason

    @property
    def score_interval_s(self) -> float:
        """Seconds of sound between two messages of scores."""
        return self._node.config.mqtt.score_interval_s

    def raised_s(self) -> float | None:
        """Return the seconds for which the alarm has been raised by now; None if it is not."""
        last = self._node.last_event(self._topic)
        return None if last is None else last.raised_s

    def event(
        self,
        event: AlarmEvent,
        detector: Detector,
        clock: StreamClock,
        audio: AudioQuality,
        *,
        has_clip: bool,
    ) -> str:
        """Commit *event* to the outbox, then have it sent and the state told.

        Args:
            event: Change of the alarm.
            detector: Detector that found it.
            clock: Clock of the stream that *event* counts samples of.
            audio: Quality of the sound behind the score.
            has_clip: Whether the sound around the event is kept.

        Returns:
            Id of the event, from which its clip has its name.
        """
        node = self._node
        seq = node.next_number()
        name = event_id(node.name, node.boot_id, seq)
        time_ms = clock.time_ms(event.first_sample)
        payload = event_payload(
            event,
            node=node.name,
            machine=self._machine,
            boot_id=node.boot_id,
            seq=seq,
            clock=clock,
            clock_synced=clock_synchronized(),
            model=identity_of(detector),
            audio=audio,
            clip=clip_name(time_ms, self._machine, name) if has_clip else None,
        )
        _log.info(
            "%s: alarm %s, score %.3f, threshold %.3f",
            self._machine,
            event.type,
            event.score,
            event.threshold,
        )
        self._event_id = name
        put_event(node.outbox, self._topic, payload)
        node.wake()
        return name

    def scores(
        self, scores: Sequence[Score], detector: Detector, clock: StreamClock, level_dbfs: float
    ) -> None:
        """Publish *scores* of *detector*; they are lost if the broker is away."""
        payload = score_payload(
            scores,
            node=self._node.name,
            machine=self._machine,
            clock=clock,
            threshold=detector.alarm.threshold,
            level_dbfs=level_dbfs,
        )
        self._node.publish_scores(self._machine, encode(payload))

    def repeat(self) -> None:
        """Have the state published again, news or not, as to a broker that never heard it."""
        self._is_wanted_again = True

    def tell_state(
        self,
        state: State,
        reason: str,
        score: float | None,
        threshold: float,
        *,
        last: bool = False,
    ) -> bool:
        """Publish and log the state of a machine that is listened to, if it is news.

        Args:
            state: State of the machine.
            reason: Why it is in that state, in words; empty when all is well.
            score: Latest score, if there is one.
            threshold: Score at which the alarm is raised.
            last: Whether there is no later chance to tell it.

        Returns:
            Whether it was published.
        """
        told = self.told
        if not self.tell(Condition(state, reason, self._event_id, threshold), score, last=last):
            return False
        if told is None or told.state != state:
            log = _log.info if state in {"ok", "learning"} else _log.warning
            log("%s: %s%s", self._machine, state, f" ({reason})" if reason else "")
        return True

    def tell(self, condition: Condition, score: float | None, *, last: bool = False) -> bool:
        """Publish *condition* if it is news and the minute allows it; return whether it did.

        Args:
            condition: Condition of the machine now.
            score: Latest score, if there is one.
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
        self._node.publish_state(self._machine, self._state(condition, score))
        return True

    def _state(self, condition: Condition, score: float | None) -> bytes:
        payload = state_payload(
            node=self._node.name,
            machine=self._machine,
            state=condition.state,
            # Counted back from now: the wall clock may have been set since.
            since_s=max(0.0, time.time() - (since_boot_s() - self._since_s)),
            event_id=condition.event_id,
            score=score,
            threshold=condition.threshold,
            reason=condition.reason,
        )
        return encode(payload)


def identity_of(detector: Detector) -> ModelIdentity:
    """Return how messages name the model of *detector*."""
    document = detector.model.document
    return ModelIdentity(document.id, detector.model.sha256, document.version)
