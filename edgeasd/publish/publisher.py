"""Alerts to the broker, for as long as the daemon runs.

One thread owns the connection: it connects, serves the network, publishes, and deletes from the
outbox what was acknowledged.  Others only leave messages and wake it, so that no broker, however
slow, ever holds them up.  Every connection is a new session (``clean_session``) in which this
module alone repeats what was not acknowledged: an event is sent twice only if the connection broke
between its sending and its acknowledgement, and then under the same id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeasd.errors import BrokerError, EdgeasdError
from edgeasd.publish.inflight import InFlight
from edgeasd.publish.mqtt import Connection, require_files
from edgeasd.publish.topics import OFFLINE, ONLINE

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from edgeasd.config import MqttConfig
    from edgeasd.publish.outbox import Outbox
    from edgeasd.publish.topics import Topics

_log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 20
"""Most events sent and not acknowledged; no more come twice when a connection breaks."""

_MAX_TRANSIENT = 256  # messages that wait for a slow network; the oldest go first
_TURN_S = 1.0  # keepalive and acknowledgements are looked after at least this often


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the publisher is.

    Attributes:
        reconnect_min_s: Seconds before the first new attempt to connect; each further wait is
            twice as long.
        reconnect_max_s: Longest wait between two attempts.
        acknowledge_s: Seconds without an acknowledgement of any event sent after which the
            connection is given up.
        stop_s: Longest that stopping waits for the broker.
    """

    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 60.0
    acknowledge_s: float = 60.0
    stop_s: float = 2.0


DEFAULT_TIMING = Timing()


class MqttPublisher:
    """Publishes events from the outbox, retained states and passing messages.

    Args:
        config: Where to, and as whom.
        topics: Of this node.
        outbox: Events to send; they are removed when the broker has acknowledged them.
        client_id: Name of this client, unique at the broker and the same at every start.
        timing: How patient to be.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
    """

    def __init__(
        self,
        config: MqttConfig,
        topics: Topics,
        outbox: Outbox,
        client_id: str,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        require_files(config)
        self._config = config
        self._address = f"{config.host}:{config.port}"
        self._topics = topics
        self._outbox = outbox
        self._client_id = client_id
        self._timing = timing
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._stop_requested = threading.Event()
        # Left by any thread, taken by the one of this object; the lock is never held for long.
        self._lock = threading.Lock()
        self._wake_fd: int | None = None
        self._retained = {topics.availability: ONLINE}
        self._unsent: set[str] = set()
        self._transient: deque[tuple[str, bytes]] = deque(maxlen=_MAX_TRANSIENT)
        # Written by the thread of this object alone.
        self._is_connected = False
        self._n_connections = 0
        self._fault = "not connected yet"
        self._delay_s = timing.reconnect_min_s
        self._in_flight = InFlight(timing.reconnect_min_s, timing.reconnect_max_s)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it stands."""
        return self._is_connected

    @property
    def reconnects(self) -> int:
        """Connections accepted after the first one."""
        return max(0, self._n_connections - 1)

    @property
    def fault(self) -> str:
        """Why alerts do not get out, in words with the remedy; empty when they do."""
        return self._fault

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; it ends with `stop` only."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start connecting; the broker may be away, for days."""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, say `OFFLINE` and disconnect, if the broker answers in time.

        Without effect unless it was started; it cannot be started again.
        """
        self._stop_requested.set()
        self.notify()
        if self._thread.is_alive():
            # A thread that hangs in connecting is left to the end of the process.
            self._thread.join(2 * self._timing.stop_s)

    def publish_retained(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 what holds until further notice; said again at every connection."""
        with self._lock:
            self._retained[topic] = payload
            self._unsent.add(topic)
        self.notify()

    def publish_transient(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0 what is of no use later; dropped while there is no connection."""
        if self._is_connected:
            with self._lock:
                self._transient.append((topic, payload))
            self.notify()

    def notify(self) -> None:
        """Look into the outbox: there is something new."""
        with self._lock:
            if self._wake_fd is not None:
                os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        while not self._stop_requested.is_set():
            try:
                self._session()
            except EdgeasdError as exc:
                self._set_fault(str(exc))
            except Exception:  # noqa: BLE001  # without this thread no alert gets out again
                _log.exception("publishing failed")
                self._set_fault("internal error; see the log")
            self._is_connected = False
            self._outbox.recover()
            # Jitter: a hundred nodes do not come back to a restarted broker at once.
            self._stop_requested.wait(self._delay_s * random.uniform(0.5, 1.0))
            self._delay_s = min(2 * self._delay_s, self._timing.reconnect_max_s)
        with self._lock:
            fd, self._wake_fd = self._wake_fd, None
        if fd is not None:
            os.close(fd)

    def _session(self) -> None:
        will = (self._topics.availability, OFFLINE)
        connection = Connection(self._config, self._client_id, will=will)
        ends_cleanly = False
        try:
            self._begin()
            accepted_s = time.monotonic()
            while not self._stop_requested.is_set():
                self._send(connection)
                self._serve(connection, _TURN_S)
                # A connection that breaks at once, time and again, is no reason to hurry.
                if time.monotonic() - accepted_s > self._delay_s:
                    self._delay_s = self._timing.reconnect_min_s
            self._send(connection)
            ends_cleanly = self._say_offline(connection)
        finally:
            connection.close(cleanly=ends_cleanly)

    def _begin(self) -> None:
        self._in_flight.reset()
        self._fault = ""
        with self._lock:
            self._unsent = set(self._retained)
            self._transient.clear()
        self._n_connections += 1
        self._is_connected = True
        _log.info("connected to %s", self._address)

    def _send(self, connection: Connection) -> None:
        blocked: AbstractSet[str] = self._in_flight.refused.keys()
        if self._in_flight.is_retry_due(time.monotonic()):
            with self._lock:
                self._unsent |= blocked & self._retained.keys()
            blocked = set()
        self._send_retained(connection)
        self._send_events(connection, blocked)
        while self._transient and not connection.is_congested:
            topic, payload = self._transient.popleft()
            connection.publish(topic, payload, qos=0)

    def _send_retained(self, connection: Connection) -> None:
        while self._may_send(connection):
            with self._lock:
                topic = next((topic for topic in self._retained if topic in self._unsent), None)
                if topic is None:
                    return
                self._unsent.remove(topic)
                payload = self._retained[topic]
            number = connection.publish(topic, payload, qos=1, retain=True)
            self._in_flight.add(number, topic, None, time.monotonic())

    def _send_events(self, connection: Connection, blocked: AbstractSet[str]) -> None:
        sent = self._in_flight.event_ids
        # Behind one that was refused all of its topic wait, so that they arrive in their order;
        # those of other machines do not wait for a topic that may never be allowed.
        for event in self._outbox.pending(MAX_IN_FLIGHT, blocked):
            if not self._may_send(connection):
                return
            if event.event_id not in sent:
                number = connection.publish(event.topic, event.payload, qos=1)
                self._in_flight.add(number, event.topic, event.event_id, time.monotonic())

    def _may_send(self, connection: Connection) -> bool:
        return (
            not connection.is_congested and len(self._in_flight) < connection.limits.receive_maximum
        )

    def _serve(self, connection: Connection, timeout_s: float) -> set[int]:
        """Wait for the network or to be woken, and return what was answered."""
        connection.serve(timeout_s, self._wake_fd)
        if self._wake_fd is not None:
            with contextlib.suppress(BlockingIOError):  # it was the network
                os.eventfd_read(self._wake_fd)
        answers = connection.answers()
        if answers:
            self._settle(answers)
        elif self._in_flight.stalled_s(time.monotonic()) > self._timing.acknowledge_s:
            raise BrokerError(f"broker at {self._address} acknowledges no event")
        return {number for number, _ in answers}

    def _settle(self, answers: list[tuple[int, str]]) -> None:
        delivered = self._in_flight.settle(answers, time.monotonic())
        if delivered:
            self._outbox.remove(*delivered)
        self._set_fault(
            next(
                (
                    f"broker at {self._address} refuses messages on {topic} ({reason}); "
                    "check its access control list"
                    for topic, reason in self._in_flight.refused.items()
                ),
                "",
            )
        )

    def _say_offline(self, connection: Connection) -> bool:
        number = connection.publish(self._topics.availability, OFFLINE, qos=1, retain=True)
        deadline_s = time.monotonic() + self._timing.stop_s
        while (remaining_s := deadline_s - time.monotonic()) > 0:
            if number in self._serve(connection, remaining_s):
                return True
        return False

    def _set_fault(self, fault: str) -> None:
        if fault and fault != self._fault:
            _log.warning("%s", fault)
        self._fault = fault
