"""What this computer says over MQTT: findings become payloads on their topics."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence

from edgeasd.clock import clock_synchronized
from edgeasd.config import Config
from edgeasd.detect.model import Model
from edgeasd.publish.outbox import Outbox
from edgeasd.publish.payloads import (
    AudioQuality,
    ModelIdentity,
    State,
    StreamClock,
    encode,
    event_payload,
    score_payload,
    state_payload,
)
from edgeasd.publish.publisher import MqttPublisher
from edgeasd.publish.topics import Topics
from edgeasd.stream import AlarmEvent, Score

_log = logging.getLogger(__name__)


class Node:
    """What the machines of one daemon share.

    Attributes:
        name: Of the node.
        boot_id: Of this run: makes event ids unique over restarts.
        changed: Set when the supervisor has something to tell.
    """

    def __init__(self, config: Config) -> None:
        self.name = config.node
        self.boot_id = secrets.token_hex(4)
        self.numbers: Iterator[int] = itertools.count(1)
        self.changed = threading.Event()
        self.topics = Topics(config.mqtt.base, config.node)
        self.outbox = Outbox(config.state_dir / "outbox.sqlite3")
        self.publisher = MqttPublisher(
            config.mqtt, self.topics, self.outbox, client_id=f"edgeasd-{config.node}"
        )


class MachineVoice:
    """What one machine says over MQTT; the `Outlet` of its monitor.

    Args:
        node: What all machines of the node share.
        name: Of the machine.
        model: Of the machine.
        threshold: Score at which its alarm is raised.

    Attributes:
        identity: Of the model.
        state: As last told.
        reason: As last told.
    """

    def __init__(self, node: Node, name: str, model: Model, threshold: float) -> None:
        self._node = node
        self._name = name
        self._threshold = threshold
        self.identity = ModelIdentity(model.document.id, model.sha256, model.document.version)
        self._event_id: str | None = None
        self._said: tuple[State, str, str | None] | None = None
        self._since_s = 0.0
        self.state: State = "learning"
        self.reason = ""

    def event(self, event: AlarmEvent, clock: StreamClock, audio: AudioQuality) -> None:
        """Commit *event* to the outbox, then have it sent and the state told."""
        node = self._node
        payload = event_payload(
            event,
            node=node.name,
            machine=self._name,
            boot_id=node.boot_id,
            seq=next(node.numbers),
            clock=clock,
            clock_synced=clock_synchronized(),
            model=self.identity,
            audio=audio,
        )
        node.outbox.put(payload["id"], node.topics.event(self._name), encode(payload))
        self._event_id = payload["id"]
        node.publisher.notify()
        node.changed.set()

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

    def tell_state(self, state: State, reason: str, score: float | None) -> bool:
        """Publish the retained state if it is news; return whether it was."""
        said = (state, reason, self._event_id)
        if said == self._said:
            return False
        if self._said is None or self._said[0] != state:
            self._since_s = time.time()
            log = _log.info if state in {"ok", "learning"} else _log.warning
            log("%s: %s%s", self._name, state, f" ({reason})" if reason else "")
        self._said = said
        self.state, self.reason = state, reason
        payload = state_payload(
            node=self._node.name,
            machine=self._name,
            state=state,
            since_s=self._since_s,
            event_id=self._event_id,
            score=score,
            threshold=self._threshold,
            reason=reason,
        )
        self._node.publisher.publish_retained(self._node.topics.state(self._name), encode(payload))
        return True
