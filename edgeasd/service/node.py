"""What the machines of one daemon share: configuration, outbox, publisher, clips, event numbers."""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from edgeasd import __version__
from edgeasd.common.clock import Moment, clock_synchronized, moment
from edgeasd.common.config.keys import Config, MqttConfig
from edgeasd.publish.clips.writer import ClipWriter
from edgeasd.publish.delivery.presence import Presence
from edgeasd.publish.delivery.publisher import MqttPublisher
from edgeasd.publish.delivery.retained_notes import FILE_NAME
from edgeasd.publish.mqtt.status import StatusFile
from edgeasd.publish.outbox.outbox import Outbox
from edgeasd.publish.payloads.encoding import encode
from edgeasd.publish.payloads.event import closing_payload
from edgeasd.publish.payloads.fields import Payload
from edgeasd.publish.payloads.health import MachineHealth, MqttHealth, encode_health, health_payload
from edgeasd.publish.topics import Topics, state_beside

_MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The latest event of a machine, as the outbox notes it beside the event itself.

    From it the next run of the daemon knows for how long the alarm has been raised.

    Attributes:
        payload: Payload of the event.
        told: When the event was put into the outbox; None where that is not known.
    """

    payload: Payload
    told: Moment | None

    @classmethod
    def read(cls, note: bytes) -> LastEvent:
        """Return the event in a *note*, which older versions wrote without the time."""
        payload = json.loads(note)
        told = payload.pop(_MOMENT, None)
        return cls(payload, None if told is None else Moment(**told))

    def write(self) -> bytes:
        """Return the note."""
        return encode({**self.payload, _MOMENT: None if self.told is None else asdict(self.told)})

    @property
    def raised_s(self) -> float | None:
        """Seconds for which the alarm has been raised by now; None if it has ended.

        After a restart of the computer, the time until the event counts and no more: only the wall
        clock went on since, and it may have been set by years.
        """
        if self.payload["type"] == "end":
            return None
        heard_s: float = self.payload["duration_s"]
        since_s = None if self.told is None else moment().since(self.told)
        return heard_s + (since_s or 0.0)


def put_event(outbox: Outbox, topic: str, payload: Payload) -> None:
    """Commit an event to the *outbox*, together with its note; see `LastEvent`."""
    outbox.put(payload["id"], topic, encode(payload), LastEvent(payload, moment()).write())


class Node:
    """What the machines of one daemon share.

    Attributes:
        config: Configuration in force, except for the machines' own, which they have themselves.
        boot_id: Name of this run of the daemon, which makes event ids unique over restarts.
        changed: Set when the supervisor has something to tell.
        topics: Topics of the node.
        outbox: Alerts that wait for the broker.
        publisher: Connection to the broker.
        clips: Writer of the sound around alarms.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.boot_id = secrets.token_hex(4)
        self.changed = threading.Event()
        self.topics = Topics(config.mqtt.base, config.node)
        self.outbox = Outbox(config.state_dir / "outbox.sqlite3")
        self._started_s = time.monotonic()
        self._numbers: Iterator[int] = itertools.count(1)
        self._status = StatusFile(config.state_dir)
        self._presence = Presence(self.topics, self.boot_id, config.state_dir / FILE_NAME)
        self.publisher = self._new_publisher(config.mqtt)
        self._presence.move_to(_broker(config.mqtt), self.publisher)
        self.clips = ClipWriter(config.clips, config.clips_dir, config.state_dir / "clip_ages.json")

    @property
    def name(self) -> str:
        """Name of this computer."""
        return self.config.node

    def connect_as(self, config: MqttConfig) -> None:
        """Go over to another broker or account; states must then be told again.

        The topics stay as they are.

        Raises:
            ConfigError: If a file that *config* names cannot be used; all stays as it was.
        """
        publisher = self._new_publisher(config)
        if _broker(config) == _broker(self.config.mqtt):
            self.publisher.stop()
        else:
            self._presence.leave(self.publisher)
        self.config = replace(self.config, mqtt=config)
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

    def last_event(self, topic: str) -> LastEvent | None:
        """Return the latest event on an event topic, also of an earlier run; None without one."""
        note = self.outbox.latest(topic)
        return None if note is None else LastEvent.read(note)

    def wake(self) -> None:
        """Have an event that was just put into the outbox sent, and the states told."""
        self.publisher.notify()
        self.changed.set()

    def publish_state(self, machine: str, payload: bytes) -> None:
        """Publish the state of *machine*, retained."""
        self.publisher.publish_retained(self.topics.state(machine), payload)

    def publish_scores(self, machine: str, payload: bytes) -> None:
        """Publish scores of *machine*; they are lost if the broker is away."""
        self.publisher.publish_transient(self.topics.score(machine), payload)

    def publish_health(self, machines: Sequence[MachineHealth], refused: Sequence[str]) -> None:
        """Publish the health of the node, retained.

        Args:
            machines: Health of each machine.
            refused: What of the configuration is not applied, in words.
        """
        payload = health_payload(
            node=self.name,
            time_s=time.time(),
            version=__version__,
            uptime_s=time.monotonic() - self._started_s,
            boot_id=self.boot_id,
            mqtt=MqttHealth(
                connected=self.publisher.connected,
                reconnects=self.publisher.reconnects,
                queued_events=len(self.outbox),
                dropped_events=self.outbox.dropped,
                fault=self.fault,
            ),
            machines=machines,
            storage_fault=self.outbox.fault,
            clips=self.clips.health,
            refused=refused,
        )
        topic = self.topics.health
        self.publisher.publish_retained(topic, encode_health(payload, self.publisher.room(topic)))

    @property
    def faults(self) -> tuple[object, ...]:
        """What of the node is news when it changes: connection, and faults of all its parts."""
        return self.publisher.connected, self.fault, self.outbox.fault, self.clips.fault

    def forget(self, machine: str) -> None:
        """End the alarm of a machine that is no longer listened to, and clear its retained state.

        Otherwise an alarm that was raised would last for ever.
        """
        self._end_alarm(self.topics.event(machine))
        self._presence.clear(self.topics.state(machine), self.publisher)

    def forget_all_but(self, machines: Collection[str]) -> None:
        """End alarms and clear states of machines that only earlier runs listened to.

        This includes those that earlier runs told under another node name or base topic.
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
        """End the alarm that was raised on an event topic, and return whether there was one."""
        last = self.last_event(topic)
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
        put_event(self.outbox, topic, payload)
        self.wake()
        return True

    def remember(self, machines: Collection[str]) -> None:
        """Note on disk that *machines* will have a retained state, before any is published."""
        self._presence.say(map(self.topics.state, machines))

    @property
    def fault(self) -> str:
        """Why alerts do not reach the broker, in words with the remedy; empty when they do."""
        return "; ".join(filter(None, (self._presence.fault, self.publisher.fault)))

    def look_after(self) -> None:
        """Act on the broker's answers and write the status file; to be called now and then."""
        self._presence.look_after(self.publisher)
        self._status.write(self.config.mqtt, self.fault, connected=self.publisher.connected)

    def stop(self) -> None:
        """Publish that the node is offline, and disconnect."""
        self.publisher.stop()
        self.look_after()


def _broker(config: MqttConfig) -> str:
    """Return the identity of a broker; its ports with and without TLS are the same broker."""
    return config.host.lower()
