"""One connection to an MQTT broker.

The thread of the client library is not used.  It dies silently if a callback raises, if the host
name is malformed, or if the broker goes away while the protocol version is negotiated.  It resends
messages itself, so that events arrive twice, and it does not report why a connection failed.  Here
the caller's thread opens, serves and closes a `Connection`, and an error is an exception in that
thread.  A new connection shares nothing with the one before: credentials and certificates are read
again, and nothing is resent that the caller does not publish again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from edgeasd.common.errors import BrokerError
from edgeasd.publish.mqtt import faults
from edgeasd.publish.mqtt.answers import Answers
from edgeasd.publish.mqtt.client import PROTOCOL_ERROR, limits_of, new_client, own_limits
from edgeasd.publish.mqtt.inbound import Received
from edgeasd.publish.mqtt.limits import Limits, packet_size

if TYPE_CHECKING:
    from edgeasd.common.config.keys import MqttConfig

CONNECT_TIMEOUT_S = 10.0
"""Longest wait, in seconds, for an unreachable address and for a broker that does not answer."""

_MOST_RECEIVED = 64  # messages that wait for `Connection.received`; of more, the oldest are dropped


class EndedError(BrokerError):
    """The broker ended the connection, or closed it before it accepted it.

    Attributes:
        reason_code: Reason code of MQTT 5 that the broker gave; None without one.
    """

    def __init__(self, message: str, reason_code: int | None) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class Connection:
    """A connection from its opening to its end; used by one thread at a time.

    Args:
        config: Broker and account.
        client_id: Name of this client, unique at the broker.
        will: Topic and payload that the broker publishes if the connection breaks.
        will_qos: Quality of service of the will.
        will_retain: Whether the broker shall keep the will.
        connect_timeout_s: Seconds until an attempt is given up.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
        BrokerError: If no connection can be made; the message says why and what to do.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        *,
        will: tuple[str, bytes] | None = None,
        will_qos: int = 1,
        will_retain: bool = True,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._config = config
        self._broker = f"broker at {faults.address(config)}"
        self._client_id = client_id
        self._refusal = ""
        self._reason_code: int | None = None
        self._is_accepted = False
        self._answers = Answers()
        self._limits = Limits()
        self._received: deque[Received] = deque(maxlen=_MOST_RECEIVED)
        self._subscriptions: dict[int, bool | None] = {}
        self._client = new_client(config, client_id)
        self._client.connect_timeout = connect_timeout_s
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_ping = self._answers.pinged
        if will is not None:
            self._client.will_set(*will, qos=will_qos, retain=will_retain)
        try:
            self._open(time.monotonic() + connect_timeout_s)
        except BaseException:
            self.close(cleanly=False)
            raise

    def _open(self, deadline_s: float) -> None:
        config = self._config
        try:
            self._client.connect(
                config.host, config.port, config.keepalive_s, properties=own_limits(config)
            )
        except (OSError, ValueError) as exc:
            raise BrokerError(faults.no_connection(exc, config)) from exc
        sock: Any = self._client.socket()
        if sock is not None:
            # Otherwise a small packet whose sender waits for the answer is sent 40 ms later.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self._is_accepted:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise BrokerError(faults.no_connection(TimeoutError(), config))
            self.serve(remaining_s)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> int:
        """Send a message, and return its number, which `answers` returns when it was answered.

        Raises:
            ValueError: If nothing can be published on *topic*.
        """
        number = self._client.publish(topic, payload, qos=qos, retain=retain).mid
        self._answers.sent(number, qos)
        return number

    def packet_size(self, topic: str, payload: bytes, *, qos: int) -> int:
        """Return the bytes of the whole packet that publishes *payload* on *topic*."""
        return packet_size(topic, payload, qos=qos, version=self._config.version)

    def ping(self) -> None:
        """Ask the broker for an answer, which shows that it has read earlier messages at QoS 0."""
        if self._answers.needs_ping:
            self._client.ping()

    def subscribe(self, topic_filter: str, *, qos: int) -> int:
        """Ask for the messages on the topics that *topic_filter* matches; see `received`.

        Returns:
            The number of the request; see `is_answered` and `is_refused`.
        """
        self._client.inbound.wants_messages = True
        number = self._client.subscribe(topic_filter, qos)[1] or 0
        self._subscriptions[number] = None
        return number

    def is_answered(self, number: int) -> bool:
        """Return whether the broker has answered the subscription *number*."""
        return self._subscriptions.get(number) is not None

    def is_refused(self, number: int) -> bool:
        """Return whether the broker has refused the subscription *number*."""
        return self._subscriptions.get(number) is False

    def received(self) -> list[Received]:
        """Return the messages received since the last call; call it after each `serve`.

        Messages that were not subscribed to, or are larger than `MAX_RECEIVED_BYTES`, are skipped.
        """
        messages = list(self._received)
        self._received.clear()
        return messages

    @property
    def n_too_large(self) -> int:
        """Messages so far that were skipped as larger than `MAX_RECEIVED_BYTES`."""
        return self._client.inbound.n_too_large

    @property
    def is_congested(self) -> bool:
        """Whether messages wait for the network, so that more would pile up in memory."""
        return self._client.want_write()

    @property
    def limits(self) -> Limits:
        """Limits that the broker announces."""
        return self._limits

    def answers(self) -> list[tuple[int, str]]:
        """Return the numbers of the messages answered since the last call, in order.

        With each comes the reason why the broker refused it, which only MQTT 5 tells, or an empty
        text.  A message at QoS 0 counts as answered when a later one or a `ping` was answered.
        """
        return self._answers.take()

    def serve(self, timeout_s: float, wake_fd: int | None = None) -> None:
        """Wait for the network, or until *wake_fd* is readable, then receive and send.

        Raises:
            BrokerError: If the connection is lost.
        """
        sock = self._client.socket()
        if sock is not None:
            poll = select.poll()
            poll.register(sock, select.POLLIN | (select.POLLOUT if self.is_congested else 0))
            if wake_fd is not None:
                poll.register(wake_fd, select.POLLIN)
            # The kernel does not know of bytes that were already read or decrypted.
            has_bytes = self._client.inbound.has_bytes or (
                isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
            )
            ready = dict(poll.poll(0 if has_bytes else 1000 * timeout_s))
            events = ready.get(sock.fileno(), 0)
            if has_bytes or events & ~select.POLLOUT:
                self._read()
            if events & select.POLLOUT:
                self._client.loop_write()
            self._client.loop_misc()  # keepalive
        if self._client.inbound.fault:
            raise BrokerError(f"{self._broker} {self._client.inbound.fault}")
        if self._client.socket() is None:
            words = faults.end(self._config, self._refusal, was_accepted=self._is_accepted)
            raise EndedError(words, self._reason_code)

    def _read(self) -> None:
        n_before = self._client.inbound.n_pings_answered
        try:
            is_readable = self._client.loop_read() != PROTOCOL_ERROR
        except Exception:  # noqa: BLE001  # the error depends on what is wrong with the packet
            is_readable = False
        # The library reports a refusal as a protocol error too.
        if not (is_readable or self._refusal or self._client.inbound.fault):
            raise BrokerError(
                f"{self._broker} sends a packet that cannot be read; see in its log why"
            )
        for _ in range(self._client.inbound.n_pings_answered - n_before):
            self._answers.ping_answered()

    def close(self, *, cleanly: bool) -> None:
        """End the connection; unless *cleanly*, the broker publishes the will."""
        if cleanly:
            self._client.disconnect()
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _on_connect(
        self, _client: Any, _userdata: Any, _flags: Any, reason: Any, props: Any
    ) -> None:
        if self._is_accepted:
            return  # a broker accepts only once
        self._limits = limits_of(props)
        self._refusal = self._limits.fault
        self._reason_code = reason.value if reason.is_failure else None
        self._is_accepted = not reason.is_failure and not self._refusal
        if reason.is_failure:
            self._refusal = faults.refusal(reason, self._config)

    def _on_disconnect(
        self, _client: Any, _userdata: Any, flags: Any, reason: Any, _props: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._reason_code = reason.value
            self._refusal = faults.disconnection(reason, self._client_id)

    def _on_publish(
        self, _client: Any, _userdata: Any, number: int, reason: Any, _props: Any
    ) -> None:
        # Called for QoS 0 too, as soon as it is written, which tells nothing of the broker.
        self._answers.acknowledged(number, str(reason) if reason.is_failure else "")

    def _on_subscribe(
        self, _client: Any, _userdata: Any, number: int, reasons: list[Any], _props: Any
    ) -> None:
        if number in self._subscriptions:
            self._subscriptions[number] = not any(reason.is_failure for reason in reasons)

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        with contextlib.suppress(UnicodeDecodeError):  # such a topic is not one of ours
            self._received.append(
                Received(message.topic, bytes(message.payload), retain=message.retain)
            )


def require_files(config: MqttConfig) -> None:
    """Verify that the files that *config* names can be used.

    Raises:
        ConfigError: If one of them cannot be used; the message names it.
    """
    new_client(config, "")
