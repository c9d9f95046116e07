"""The thread that delivers messages to the broker, for as long as the daemon runs.

It alone uses the connection: it connects, serves the network, publishes, and removes acknowledged
events from the outbox.  Other threads only leave messages and wake it, so that no broker, however
slow, ever delays them.  Every connection is a new session (``clean_session``), and only this code
repeats what was not acknowledged.  So an event is sent twice only if the connection broke between
its sending and its acknowledgement, and then under the same id.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeasd.common.backoff import BackOff
from edgeasd.common.errors import BrokerError, EdgeasdError
from edgeasd.publish.delivery.capabilities import Will
from edgeasd.publish.delivery.delivery import Delivery
from edgeasd.publish.delivery.messages import RetainedMessages
from edgeasd.publish.delivery.troubles import Troubles
from edgeasd.publish.mqtt.connection import Connection, EndedError, require_files
from edgeasd.publish.mqtt.limits import room
from edgeasd.publish.topics import OFFLINE, ONLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from edgeasd.common.config.keys import MqttConfig
    from edgeasd.publish.mqtt.inbound import Received
    from edgeasd.publish.outbox.outbox import Outbox
    from edgeasd.publish.topics import Topics

_log = logging.getLogger(__name__)

_MAX_TRANSIENT = 256  # messages that wait for a slow network; of more, the oldest are dropped
_MOST_LISTED = 3  # troubles in the health message; the log has all
_TURN_S = 1.0  # longest time between two looks at keepalive and acknowledgements


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the publisher is.

    Attributes:
        reconnect_min_s: Longest wait before the first new attempt to connect; see `BackOff`.
        reconnect_max_s: Longest wait between any two attempts.
        acknowledge_s: Seconds without an acknowledgement after which the connection is given up.
        stop_s: Longest wait for the broker when stopping.
    """

    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 60.0
    acknowledge_s: float = 60.0
    stop_s: float = 2.0


DEFAULT_TIMING = Timing()


class MqttPublisher:
    """Publishes events from the outbox, retained and transient messages.

    The functions passed to it are called in its thread.

    Args:
        config: Broker and account.
        topics: Topics of this node.
        outbox: Events to send; they are removed when the broker has acknowledged them.
        client_id: Name of this client, unique at the broker and the same at every start.
        timing: How patient to be.
        on_taken: Called with topic and payload of each retained message that the broker took.
        subscribes: Topics to subscribe to, at QoS 0; the broker may refuse it.
        on_received: Called with each message received.
        on_not_cleared: Called with each topic that the broker does not let be cleared.

    Attributes:
        connected: Whether the broker has accepted the connection, which has not ended yet.
        fault: Why messages do not get out, in words with the remedy; empty when they do.

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
        *,
        on_taken: Callable[[str, bytes], None] = lambda _topic, _payload: None,
        subscribes: Collection[str] = (),
        on_received: Callable[[Received], None] = lambda _message: None,
        on_not_cleared: Callable[[str], None] = lambda _topic: None,
    ) -> None:
        require_files(config)
        self._config = config
        self._address = f"{config.host}:{config.port}"
        self._topics = topics
        self._outbox = outbox
        self._client_id = client_id
        self._timing = timing
        self._subscribes = subscribes
        self._on_received = on_received
        self._last_word = OFFLINE
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._stop_requested = threading.Event()
        # Put by any thread, taken by that of this object; the lock is never held for long.
        self._lock = threading.Lock()
        self._wake_fd: int | None = None
        self._retained = RetainedMessages({topics.availability: ONLINE}, on_taken, on_not_cleared)
        self._transient: deque[tuple[str, bytes]] = deque(maxlen=_MAX_TRANSIENT)
        # Changed by the thread of this object only.
        self.connected = False
        self._n_connections = 0
        self.fault = "not connected yet"
        self._takes_nothing = ""  # why the connection before ended, if it took nothing
        self._logged: set[str] = set()
        self._largest_packet: int | None = None
        self._back_off = BackOff(timing.reconnect_min_s, timing.reconnect_max_s)
        self._will = Will()
        self._troubles = Troubles(
            f"broker at {self._address}", timing.reconnect_min_s, timing.reconnect_max_s
        )

    @property
    def reconnects(self) -> int:
        """Connections accepted after the first one."""
        return max(0, self._n_connections - 1)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; only `stop` ends it."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start connecting; the broker may be away, for days."""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread.start()

    def stop(self, last_word: bytes = OFFLINE) -> None:
        """Send what waits and the last availability, and disconnect, if the broker answers in time.

        Without effect unless it was started; it cannot be started again.

        Args:
            last_word: Payload on the topic of the availability.
        """
        self._last_word = last_word
        self._stop_requested.set()
        self.notify()
        if self._thread.is_alive():
            # A thread that hangs while connecting is abandoned; it ends with the process.
            self._thread.join(2 * self._timing.stop_s)

    def publish_retained(self, topic: str, payload: bytes) -> None:
        """Publish a retained message at QoS 1, and again at every new connection.

        An empty payload clears what the broker keeps on *topic*; it is sent until it is taken.
        """
        self._retained.put(topic, payload)
        self.notify()

    def publish_transient(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0 a message of no use later; dropped while there is no connection."""
        if self.connected:
            self._transient.append((topic, payload))
            self.notify()

    def retained(self) -> dict[str, bytes]:
        """Return by topic the messages that are sent at every new connection."""
        return dict(self._retained.items())

    def room(self, topic: str) -> int | None:
        """Return the most bytes of payload on *topic* that the broker takes; None if not known."""
        largest = self._largest_packet
        return None if largest is None else room(topic, largest, version=self._config.version)

    def notify(self) -> None:
        """Wake the thread, since there is something new in the outbox."""
        with self._lock:
            if self._wake_fd is not None:
                os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        while not self._stop_requested.is_set():
            try:
                self._session()
            except EdgeasdError as exc:
                self._report(str(exc))
            except Exception:  # noqa: BLE001  # without this thread no alert gets out again
                _log.exception("publishing failed")
                self._report("internal error; see the log")
            self.connected = False
            self._outbox.recover()
            self._stop_requested.wait(self._back_off.fail(time.monotonic()))
        with self._lock:
            fd, self._wake_fd = self._wake_fd, None
        if fd is not None:
            os.close(fd)

    def _session(self) -> None:
        connection = self._connect()
        ends_cleanly = False
        try:
            delivery = self._begin(connection)
            try:
                self._serve(connection, delivery)
                ends_cleanly = delivery.send_last(
                    self._topics.availability, self._last_word, self._timing.stop_s
                )
            except BrokerError as exc:
                if delivery.ended(by_broker=isinstance(exc, EndedError)):
                    # A message is to blame, so the broker need not be spared.
                    self._back_off.reset()
                self._takes_nothing = "" if delivery.n_taken else str(exc)
                raise
        finally:
            connection.close(cleanly=ends_cleanly)

    def _connect(self) -> Connection:
        """Connect; if the will may be why that fails, the next attempt has a simpler one."""
        try:
            return Connection(
                self._config,
                self._client_id,
                will=(self._topics.availability, OFFLINE),
                will_qos=self._will.qos,
                will_retain=self._will.retain,
            )
        except EndedError as exc:
            self._will.refused(exc.reason_code)
            raise
        except BrokerError:  # when one answers again, it may be another broker
            self._will = Will()
            self._troubles.retry_all()
            raise

    def _begin(self, connection: Connection) -> Delivery:
        self._transient.clear()
        delivery = Delivery(
            connection,
            outbox=self._outbox,
            retained=self._retained,
            transient=self._transient,
            troubles=self._troubles,
            acknowledge_s=self._timing.acknowledge_s,
        )
        for topic in self._subscribes:
            connection.subscribe(topic, qos=0)
        self._report()
        self._n_connections += 1
        self.connected = True
        _log.info("connected to %s", self._address)
        return delivery

    def _serve(self, connection: Connection, delivery: Delivery) -> None:
        """Send messages and take the answers until `stop` is called."""
        accepted_s = time.monotonic()
        while not self._stop_requested.is_set():
            delivery.send()
            self._report()
            connection.serve(min(_TURN_S, self._timing.reconnect_min_s), self._wake_fd)
            if self._wake_fd is not None:
                with contextlib.suppress(BlockingIOError):  # the network woke the thread
                    os.eventfd_read(self._wake_fd)
            for message in connection.received():
                self._on_received(message)
            delivery.settle()
            if delivery.n_taken:
                self._takes_nothing = ""
            # If every connection breaks soon, the waits must not stay short.
            if time.monotonic() - accepted_s > 2 * self._back_off.delay_s:
                self._back_off.reset()
        delivery.send()

    def _report(self, fault: str = "") -> None:
        """Report what the broker does not take: once in the log, in health while it lasts.

        Args:
            fault: Why the connection ended or could not be made; health then has this alone.
        """
        words = [*filter(None, [fault or self._takes_nothing]), *self._troubles.words]
        for one in words:
            if one not in self._logged:
                _log.warning("%s", one)
        self._logged = set(words)
        more = len(words) - _MOST_LISTED
        rest = [f"{more} more such; see the log"] if more > 0 else []
        self.fault = fault or "; ".join([*words[:_MOST_LISTED], *rest])
        self._largest_packet = self._troubles.largest_packet
