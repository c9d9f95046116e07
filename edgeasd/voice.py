"""What this computer says over MQTT: findings become payloads on their topics."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial

from edgeasd.clock import clock_synchronized, moment
from edgeasd.config import Config, MqttConfig
from edgeasd.detector import Detector
from edgeasd.last_event import LastEvent
from edgeasd.presence import Presence
from edgeasd.publish.clips import clip_name
from edgeasd.publish.clipwriter import ClipWriter
from edgeasd.publish.connection_status import StatusFile
from edgeasd.publish.outbox import Outbox
from edgeasd.publish.payloads import (
    AudioQuality,
    ModelIdentity,
    Payload,
    State,
    StreamClock,
    closing_payload,
    encode,
    event_id,
    event_payload,
    score_payload,
)
from edgeasd.publish.publisher import MqttPublisher
from edgeasd.publish.retained import FILE_NAME
from edgeasd.publish.topics import Topics, state_beside
from edgeasd.states import Condition, StateReporter
from edgeasd.stream import AlarmEvent, Score

_log = logging.getLogger(__name__)


class Node:
    """What the machines of one daemon share.

    Attributes:
        name: Of the node.
        boot_id: Of this run: makes event ids unique over restarts.
        changed: Set when the supervisor has something to tell.
        topics: Topics of the node.
        outbox: Alerts that wait for the broker.
        publisher: The way to the broker.
        clips: Where the sound around alarms goes.
    """

    def __init__(self, config: Config) -> None:
        self.name = config.node
        self.boot_id = secrets.token_hex(4)
        self._numbers: Iterator[int] = itertools.count(1)
        self.changed = threading.Event()
        self.topics = Topics(config.mqtt.base, config.node)
        self.outbox = Outbox(config.state_dir / "outbox.sqlite3")
        self._reporters: dict[str, StateReporter] = {}
        self._mqtt = config.mqtt
        self._status = StatusFile(config.state_dir)
        self._presence = Presence(self.topics, self.boot_id, config.state_dir / FILE_NAME)
        self.publisher = self._new_publisher(config.mqtt)
        self._presence.move_to(_broker(config.mqtt), self.publisher)
        self.clips = ClipWriter(config.clips, config.clips_dir, config.state_dir / "clip_ages.json")

    def connect_as(self, config: MqttConfig) -> None:
        """Go on with another broker or account; retained messages are to be told again.

        The topics stay as they are.

        Raises:
            ConfigError: If a file that *config* names cannot be used; all stays as it was.
        """
        publisher = self._new_publisher(config)
        if _broker(config) == _broker(self._mqtt):
            self.publisher.stop()
        else:
            self._presence.leave(self.publisher)
        self._mqtt = config
        self.publisher = publisher
        self._presence.move_to(_broker(config), publisher)
        self.publisher.start()

    def _new_publisher(self, config: MqttConfig) -> MqttPublisher:
        return MqttPublisher(
            config,
            self.topics,
            self.outbox,
            client_id=f"edgeasd-{self.name}",
            on_taken=partial(self._presence.was_taken, _broker(config)),
            subscribes=self._presence.listens_to(_broker(config)),
            on_received=self._presence.was_received,
            on_not_cleared=self._presence.was_refused,
        )

    def next_number(self) -> int:
        """Return the number of the next event of this run."""
        return next(self._numbers)

    def reporter(self, machine: str) -> StateReporter:
        """Return what tells the state of *machine*, always the same one."""

        def publish(payload: bytes) -> None:
            self.publisher.publish_retained(self.topics.state(machine), payload)

        return self._reporters.setdefault(machine, StateReporter(self.name, machine, publish))

    def last_event(self, machine: str) -> LastEvent | None:
        """Return what was last said of an alarm of *machine*, also in an earlier run."""
        return self._last_on(self.topics.event(machine))

    def _last_on(self, topic: str) -> LastEvent | None:
        content = self.outbox.latest(topic)
        return None if content is None else LastEvent.read(content)

    def put_event(self, machine: str, payload: Payload) -> None:
        """Commit an event to the outbox, then have it sent."""
        self._put(self.topics.event(machine), payload)

    def _put(self, topic: str, payload: Payload) -> None:
        note = LastEvent(payload, moment()).write()
        self.outbox.put(payload["id"], topic, encode(payload), note)
        self.publisher.notify()
        self.changed.set()

    def forget(self, machine: str) -> None:
        """End the alarm of a machine that is no longer listened to, and clear its retained state.

        Without it an alarm that lasts would last for ever.
        """
        self._end_alarm(self.topics.event(machine))
        self.reporter(machine).forget()
        self._presence.clear(self.topics.state(machine), self.publisher)

    def forget_all_but(self, machines: Collection[str]) -> None:
        """Do so with every machine of earlier runs that is not among *machines*.

        And with all that earlier runs had under another name or base.
        """
        for topic in self.outbox.topics():
            machine = self.topics.machine_of(topic)
            if machine is None and self._end_alarm(topic):
                self._presence.add_earlier(state_beside(topic))
            elif machine is not None and machine not in machines and self._end_alarm(topic):
                self._presence.clear(self.topics.state(machine), self.publisher)
        said = {self.topics.state(machine) for machine in machines}
        for topic in self._presence.states():
            if topic not in said:
                self._presence.clear(topic, self.publisher)

    def _end_alarm(self, topic: str) -> bool:
        """End the alarm told on an event topic, and return whether there was one."""
        last = self._last_on(topic)
        if last is None or last.raised_s is None:
            return False
        payload = closing_payload(
            last.payload,
            boot_id=self.boot_id,
            seq=self.next_number(),
            time_s=time.time(),
            clock_synced=clock_synchronized(),
            raised_s=last.raised_s,
        )
        self._put(topic, payload)
        return True

    def remember(self, machines: Collection[str]) -> None:
        """Note, before any is told, which machines have a retained state at the broker."""
        self._presence.say(map(self.topics.state, machines))

    @property
    def fault(self) -> str:
        """Why alerts do not get out, in words with the remedy; empty when they do."""
        return "; ".join(filter(None, (self._presence.fault, self.publisher.fault)))

    def look_after(self) -> None:
        """Do what the broker's answers ask for, and say how it is; to be called now and then."""
        self._presence.look_after(self.publisher)
        self._status.write(self._mqtt, self.fault, connected=self.publisher.connected)

    def stop(self) -> None:
        """Say that the node is gone, and disconnect."""
        self.publisher.stop()
        self.look_after()


def _broker(config: MqttConfig) -> str:
    """Return what tells one broker from another: it has one port for TLS and one without."""
    return config.host.lower()


class MachineVoice:
    """What one machine says over MQTT; the `Outlet` of its monitor.

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
