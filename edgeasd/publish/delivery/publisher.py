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

from edgeasd.common.errors import BrokerError, EdgeasdError
from edgeasd.publish.delivery.delivery import Delivery
from edgeasd.publish.delivery.standing import Standing
from edgeasd.publish.delivery.troubles import Troubles
from edgeasd.publish.mqtt.connection import Connection, EndedError, require_files
from edgeasd.publish.mqtt.limits import room
from edgeasd.publish.topics import OFFLINE, ONLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from edgeasd.common.config import MqttConfig
    from edgeasd.publish.mqtt.inbound import Received
    from edgeasd.publish.outbox.outbox import Outbox
    from edgeasd.publish.topics import Topics

_log = logging.getLogger(__name__)

_MAX_PASSING = 256  # messages that wait for a slow network; the oldest go first
_MOST_TOLD = 3  # troubles in the health message; the log has all
_TURN_S = 1.0  # keepalive and acknowledgements are looked after at least this often

_FULL_WILL = (1, True)
# A broker that says nothing is tried with less and less of a will, and then anew.
_NEXT_WILL = {_FULL_WILL: (0, True), (0, True): (0, False)}


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the publisher is.

    Attributes:
        reconnect_min_s: Seconds before the first new attempt to connect; each further wait is
            twice as long.
        reconnect_max_s: Longest wait between two attempts.
        acknowledge_s: Seconds without an acknowledgement after which the connection is given up.
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
        topics: Topics of this node.
        outbox: Events to send; they are removed when the broker has acknowledged them.
        client_id: Name of this client, unique at the broker and the same at every start.
        timing: How patient to be.
        on_taken: Called in the thread of the publisher with topic and payload of each retained
            message that the broker has taken; an empty payload was cleared.
        subscribes: Topics to listen to, at QoS 0; a broker need not allow it.
        on_received: Called in the thread of the publisher with each message received.
        on_not_cleared: Called in the thread of the publisher with each topic that the broker does
            not let be cleared; it is not tried again.

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
        self._on_taken = on_taken
        self._subscribes = subscribes
        self._on_received = on_received
        self._on_not_cleared = on_not_cleared
        self._last_word = OFFLINE
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._stop_requested = threading.Event()
        # Left by any thread, taken by the one of this object; the lock is never held for long.
        self._lock = threading.Lock()
        self._wake_fd: int | None = None
        self._retained = Standing({topics.availability: ONLINE})
        self._passing: deque[tuple[str, bytes]] = deque(maxlen=_MAX_PASSING)
        # Written by the thread of this object alone.
        self._is_connected = False
        self._n_connections = 0
        self._fault = "not connected yet"
        self._takes_nothing = ""  # why the connection before ended, if it took nothing
        self._told: set[str] = set()
        self._largest_packet: int | None = None
        self._delay_s = timing.reconnect_min_s
        self._will = _FULL_WILL
        self._troubles = Troubles(
            f"broker at {self._address}", timing.reconnect_min_s, timing.reconnect_max_s
        )

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

    def stop(self, last_word: bytes = OFFLINE) -> None:
        """Send what waits, say the *last word* and disconnect, if the broker answers in time.

        Without effect unless it was started; it cannot be started again.
        """
        self._last_word = last_word
        self._stop_requested.set()
        self.notify()
        if self._thread.is_alive():
            # A thread that hangs in connecting is left to the end of the process.
            self._thread.join(2 * self._timing.stop_s)

    def publish_retained(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 what holds until further notice; said again at every connection.

        An empty payload clears what the broker keeps on *topic*; it is said until it is taken.
        """
        self._retained.say(topic, payload)
        self.notify()

    def publish_transient(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 0 what is of no use later; dropped while there is no connection."""
        if self._is_connected:
            self._passing.append((topic, payload))
            self.notify()

    def retained(self) -> dict[str, bytes]:
        """Return by topic what is said at every connection."""
        return dict(self._retained.items())

    def room(self, topic: str) -> int | None:
        """Return how many bytes of payload on *topic* the broker takes; None if not known."""
        largest = self._largest_packet
        return None if largest is None else room(topic, largest, version=self._config.version)

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
        connection = self._connect()
        ends_cleanly = False
        try:
            delivery = self._begin(connection)
            try:
                self._serve(connection, delivery)
                ends_cleanly = delivery.say_last(
                    self._topics.availability, self._last_word, self._timing.stop_s
                )
            except BrokerError as exc:
                if delivery.ended(by_broker=isinstance(exc, EndedError)):
                    # The message is to blame, and not a broker that is in need of rest.
                    self._delay_s = self._timing.reconnect_min_s
                self._takes_nothing = "" if delivery.n_taken else str(exc)
                raise
        finally:
            connection.close(cleanly=ends_cleanly)

    def _connect(self) -> Connection:
        """Connect; where the last will may be why that fails, the next time is with less of it.

        A broker that keeps no retained messages, or has no QoS 1, accepts no such will.
        """
        qos, retain = self._will
        try:
            return Connection(
                self._config,
                self._client_id,
                will=(self._topics.availability, OFFLINE),
                will_qos=qos,
                will_retain=retain,
            )
        except EndedError as exc:
            match exc.reason_code:
                case 0x9A:  # retain not supported
                    self._will = (qos, False)
                case 0x9B:  # QoS not supported
                    self._will = (0, retain)
                case None:
                    self._will = _NEXT_WILL.get((qos, retain), _FULL_WILL)
            raise
        except BrokerError:  # another one may answer when it is there again
            self._will = _FULL_WILL
            self._troubles.retry_all()
            raise

    def _begin(self, connection: Connection) -> Delivery:
        self._passing.clear()
        delivery = Delivery(
            connection,
            version=self._config.version,
            outbox=self._outbox,
            standing=self._retained,
            passing=self._passing,
            troubles=self._troubles,
            on_taken=self._on_taken,
            on_not_cleared=self._on_not_cleared,
            acknowledge_s=self._timing.acknowledge_s,
        )
        for topic in self._subscribes:
            connection.subscribe(topic, qos=0)
        self._tell_troubles()
        self._n_connections += 1
        self._is_connected = True
        _log.info("connected to %s", self._address)
        return delivery

    def _serve(self, connection: Connection, delivery: Delivery) -> None:
        """Send and take answers until the stop."""
        accepted_s = time.monotonic()
        while not self._stop_requested.is_set():
            delivery.send()
            self._tell_troubles()
            connection.serve(min(_TURN_S, self._timing.reconnect_min_s), self._wake_fd)
            if self._wake_fd is not None:
                with contextlib.suppress(BlockingIOError):  # it was the network
                    os.eventfd_read(self._wake_fd)
            for message in connection.received():
                self._on_received(message)
            delivery.settle()
            if delivery.n_taken:
                self._takes_nothing = ""
            # A connection that breaks at once, time and again, is no reason to hurry.
            if time.monotonic() - accepted_s > self._delay_s:
                self._delay_s = self._timing.reconnect_min_s
        delivery.send()

    def _tell_troubles(self) -> None:
        """Tell what the broker does not take: in the log once, in health while it lasts."""
        words = [*([self._takes_nothing] if self._takes_nothing else []), *self._troubles.words]
        self._log_news(words)
        more = len(words) - _MOST_TOLD
        rest = [f"{more} more such; see the log"] if more > 0 else []
        self._fault = "; ".join([*words[:_MOST_TOLD], *rest])
        self._largest_packet = self._troubles.largest_packet

    def _set_fault(self, fault: str) -> None:
        """Tell why the connection ended or did not come about."""
        self._log_news([fault, *self._troubles.words])
        self._fault = fault

    def _log_news(self, words: list[str]) -> None:
        for one in words:
            if one not in self._told:
                _log.warning("%s", one)
        self._told = set(words)
