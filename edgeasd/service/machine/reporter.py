"""What one machine says over MQTT: findings become payloads on their topics."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edgeasd.common.clock import clock_synchronized
from edgeasd.common.types import AlarmEvent, Score
from edgeasd.models.detector import Detector
from edgeasd.publish.clips.folder import clip_name
from edgeasd.publish.payloads.encoding import StreamClock, encode
from edgeasd.publish.payloads.event import AudioQuality, event_id, event_payload
from edgeasd.publish.payloads.fields import ModelIdentity
from edgeasd.publish.payloads.score import score_payload
from edgeasd.publish.payloads.state import State
from edgeasd.service.machine.states import Condition
from edgeasd.service.node import Node

_log = logging.getLogger(__name__)


class Reporter:
    """What one machine says over MQTT; the `Outlet` of its listener.

    Args:
        node: What all machines of the node share.
        name: Of the machine.
        detector: What scores it.

    Attributes:
        identity: Of the model.
    """

    def __init__(self, node: Node, name: str, detector: Detector) -> None:
        self._node = node
        self._name = name
        self.use(detector)
        self._reporter = node.reporter(name)
        last = node.last_event(name)
        self._event_id: str | None = None if last is None else last.payload["id"]
        self._told_identity: ModelIdentity | None = None

    @property
    def state(self) -> State:
        """State as last told."""
        told = self._reporter.told
        return "learning" if told is None else told.state

    @property
    def reason(self) -> str:
        """Reason as last told."""
        told = self._reporter.told
        return "" if told is None else told.reason

    def use(self, detector: Detector) -> None:
        """Take note of what makes the scores from now on."""
        document = detector.model.document
        self.identity = ModelIdentity(document.id, detector.model.sha256, document.version)
        self._threshold = detector.alarm.threshold

    def raised_s(self) -> float | None:
        """Return since when its alarm is raised, as last said, seconds; None if it is not."""
        last = self._node.last_event(self._name)
        return None if last is None else last.raised_s

    def event(
        self, event: AlarmEvent, clock: StreamClock, audio: AudioQuality, *, keeps_sound: bool
    ) -> str | None:
        """Commit *event* to the outbox, then have it sent and the state told.

        Returns:
            Name of the clip that it promises, None if there is to be none.
        """
        node = self._node
        seq = node.next_number()
        name = event_id(node.name, node.boot_id, seq)
        time_ms = clock.time_ms(event.first_sample)
        clip = clip_name(time_ms, self._name, name) if keeps_sound else None
        payload = event_payload(
            event,
            node=node.name,
            machine=self._name,
            boot_id=node.boot_id,
            seq=seq,
            clock=clock,
            clock_synced=clock_synchronized(),
            model=self.identity,
            audio=audio,
            clip=clip,
        )
        self._event_id = name
        node.put_event(self._name, payload)
        return clip

    def scores(self, scores: Sequence[Score], clock: StreamClock, level_dbfs: float) -> None:
        """Publish *scores*; lost if the broker is away."""
        payload = score_payload(
            scores,
            node=self._node.name,
            machine=self._name,
            clock=clock,
            threshold=self._threshold,
            level_dbfs=level_dbfs,
        )
        self._node.publisher.publish_transient(self._node.topics.score(self._name), encode(payload))

    def repeat(self) -> None:
        """Have the state told again, news or not."""
        self._reporter.repeat()

    def tell_state(
        self, state: State, reason: str, score: float | None, *, last: bool = False
    ) -> bool:
        """Publish the retained state if it is news and not too much.

        Returns:
            Whether it was, or the model is news: the health message then is, too.

        Args:
            state: How the machine is.
            reason: Why, in words; empty when all is well.
            score: The latest score, if there is one.
            last: Whether there is no later chance to tell it.
        """
        told = self._reporter.told
        is_new_model, self._told_identity = self.identity != self._told_identity, self.identity
        condition = Condition(state, reason, self._event_id, self._threshold)
        if not self._reporter.tell(condition, score, last=last):
            return is_new_model
        if told is None or told.state != state:
            log = _log.info if state in {"ok", "learning"} else _log.warning
            log("%s: %s%s", self._name, state, f" ({reason})" if reason else "")
        return True
