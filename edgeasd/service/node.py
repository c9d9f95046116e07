"""What the machines of one daemon share: outbox, publisher, clips, and the numbers of events."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from functools import partial

from edgeasd.common.clock import clock_synchronized, moment
from edgeasd.common.config import Config, MqttConfig
from edgeasd.publish.clips.writer import ClipWriter
from edgeasd.publish.delivery.presence import Presence
from edgeasd.publish.delivery.publisher import MqttPublisher
from edgeasd.publish.delivery.retained_notes import FILE_NAME
from edgeasd.publish.mqtt.status import StatusFile
from edgeasd.publish.outbox.outbox import Outbox
from edgeasd.publish.payloads.encoding import encode
from edgeasd.publish.payloads.event import closing_payload
from edgeasd.publish.payloads.fields import Payload
from edgeasd.publish.topics import Topics, state_beside
from edgeasd.service.machine.last_event import LastEvent
from edgeasd.service.machine.states import StateReporter

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
