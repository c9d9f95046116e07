"""One connection to an MQTT broker.

The client's own thread is not used.  That thread dies unseen if a callback raises, if the host
name is malformed, or if the broker goes away while the protocol version is negotiated; it resends
on its own, so that events come twice; and it does not tell why a connection failed.  Here the
caller's thread does everything: it opens, serves and closes a `Connection`, and an error is an
exception in that thread.  A new connection shares nothing with the one before: credentials and
certificates are read again, and nothing is resent that the caller does not publish again.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from edgeasd.common.errors import BrokerError, os_reason
from edgeasd.publish.mqtt.answers import Answers
from edgeasd.publish.mqtt.client import PROTOCOL_ERROR, limits_of, new_client, own_limits
from edgeasd.publish.mqtt.inbound import Received
from edgeasd.publish.mqtt.limits import Limits

if TYPE_CHECKING:
    from edgeasd.common.config import MqttConfig

CONNECT_TIMEOUT_S = 10.0
"""Seconds that an unreachable address may take, and a broker that accepts but does not answer."""

# Reason codes of MQTT 5, section 3.2.2.2; the client maps the return codes of MQTT 3.1.1 to them.
# Mosquitto answers a wrong password with "not authorised".
_BAD_PASSWORD_OR_NOT_AUTHORISED = (134, 135)
_TAKEN_OVER = 142

_MOST_RECEIVED = 64  # that wait for `Connection.received`; the oldest go first


class EndedError(BrokerError):
    """The broker ended the connection, or closed it before it came about.

    Attributes:
        reason_code: Which MQTT 5 reason it gave; None without one.
    """

    def __init__(self, message: str, reason_code: int | None) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class Connection:
    """A connection from its opening to its end; used by one thread at a time.

    Args:
        config: Where to, and as whom.
        client_id: Name of this client, unique at the broker.
        will: Topic and payload that the broker publishes if the connection breaks.
        will_qos: Quality of service of the will.
        will_retain: Whether the broker shall keep it.
        connect_timeout_s: Seconds until an attempt is given up.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
        BrokerError: If no connection comes about; the message says why and what to do.
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
            raise BrokerError(in_words(exc, config)) from exc
        sock: Any = self._client.socket()
        if sock is not None:
            # What is small and waits for an answer would otherwise wait 40 ms before it is sent.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self._is_accepted:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise BrokerError(in_words(TimeoutError(), config))
            self.serve(remaining_s)

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> int:
        """Hand a message over, and return its number, which comes back from `answers`.

        Raises:
            ValueError: If *topic* is no topic to publish on.
        """
        number = self._client.publish(topic, payload, qos=qos, retain=retain).mid
        self._answers.sent(number, qos)
        return number

    def ping(self) -> None:
        """Ask the broker for an answer, from which messages at QoS 0 are known to be read."""
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
        """Whether the broker has answered the subscription *number*."""
        return self._subscriptions.get(number) is not None

    def is_refused(self, number: int) -> bool:
        """Whether the broker has refused the subscription *number*."""
        return self._subscriptions.get(number) is False

    def received(self) -> list[Received]:
        """Return the messages received since the last call; call it after each `serve`.

        Without a subscription there are none, and none larger than `MAX_RECEIVED_BYTES`.
        """
        messages = list(self._received)
        self._received.clear()
        return messages

    @property
    def n_too_large(self) -> int:
        """Messages larger than `MAX_RECEIVED_BYTES` so far, which `received` leaves out."""
        return self._client.inbound.n_too_large

    @property
    def is_congested(self) -> bool:
        """Whether messages wait for the network; handing more over would pile them up."""
        return self._client.want_write()

    @property
    def limits(self) -> Limits:
        """What the broker says that it takes."""
        return self._limits

    def answers(self) -> list[tuple[int, str]]:
        """Return the numbers of the messages answered since the last call, in order.

        Beside each stands why the broker refused it, empty if it took it; only MQTT 5 tells.  A
        message at QoS 0 is answered when the broker answers what was sent after it; see `ping`.
        """
        return self._answers.take()

    def serve(self, timeout_s: float, wake_fd: int | None = None) -> None:
        """Wait for the network, or until *wake_fd* is readable, and do what there is to do.

        Raises:
            BrokerError: If the connection is lost.
        """
        sock = self._client.socket()
        if sock is not None:
            poll = select.poll()
            poll.register(sock, select.POLLIN | (select.POLLOUT if self.is_congested else 0))
            if wake_fd is not None:
                poll.register(wake_fd, select.POLLIN)
            # Bytes that were read already, or decrypted, the kernel no longer has.
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
            raise BrokerError(f"broker at {_address(self._config)} {self._client.inbound.fault}")
        if self._client.socket() is None:
            raise EndedError(self._end_in_words(), self._reason_code)

    def _read(self) -> None:
        n_before = self._client.inbound.n_pings_answered
        try:
            is_readable = self._client.loop_read() != PROTOCOL_ERROR
        except Exception:  # noqa: BLE001  # what it raises of a packet depends on what is wrong
            is_readable = False
        # A refusal comes back as an error of the protocol too.
        if not (is_readable or self._refusal or self._client.inbound.fault):
            broker = f"broker at {_address(self._config)}"
            raise BrokerError(f"{broker} sends a packet that cannot be read; see in its log why")
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
            return  # a broker accepts once
        self._limits = limits_of(props)
        self._refusal = self._limits.nonsense
        self._reason_code = reason.value if reason.is_failure else None
        self._is_accepted = not reason.is_failure and not self._refusal
        if reason.value in _BAD_PASSWORD_OR_NOT_AUTHORISED:
            self._refusal = (
                f"refuses the user name {self._config.username!r} or its password; "
                "check mqtt.username and mqtt.password_file"
                if self._config.username
                else "refuses clients without a user name; set mqtt.username and mqtt.password_file"
            )
        elif reason.is_failure:
            self._refusal = f"refuses the connection: {reason}"

    def _on_disconnect(
        self, _client: Any, _userdata: Any, flags: Any, reason: Any, _props: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._reason_code = reason.value
            self._refusal = f"ends the connection: {reason}"
            if reason.value == _TAKEN_OVER:
                self._refusal += (
                    f"; another client has the id {self._client_id} or the account, give each its "
                    "own"
                )

    def _on_publish(
        self, _client: Any, _userdata: Any, number: int, reason: Any, _props: Any
    ) -> None:
        # Called for QoS 0 too, as soon as it is written, which says nothing of the broker.
        self._answers.acknowledged(number, str(reason) if reason.is_failure else "")

    def _on_subscribe(
        self, _client: Any, _userdata: Any, number: int, reasons: list[Any], _props: Any
    ) -> None:
        if number in self._subscriptions:
            self._subscriptions[number] = not any(reason.is_failure for reason in reasons)

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        with contextlib.suppress(UnicodeDecodeError):  # no such topic is ours
            self._received.append(
                Received(message.topic, bytes(message.payload), retain=message.retain)
            )

    def _end_in_words(self) -> str:
        broker = f"broker at {_address(self._config)}"
        if self._refusal:
            return f"{broker} {self._refusal}"
        if self._is_accepted:
            return f"connection to the {broker} was lost"
        return (
            f"{broker} closes the connection without a word; check that mqtt.port speaks "
            f"MQTT {self._config.version}, and whether it wants TLS (mqtt.ca_file) or a "
            "certificate (mqtt.cert_file)"
        )


def check_broker(config: MqttConfig, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Connect to the broker as the daemon would, and disconnect.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
        BrokerError: If the broker cannot be reached or refuses; the message has the remedy.
    """
    # Another name than the daemon's: the broker would disconnect a running daemon.
    client_id = f"edgeasd-check-{secrets.token_hex(4)}"
    Connection(config, client_id, connect_timeout_s=timeout_s).close(cleanly=True)


def require_files(config: MqttConfig) -> None:
    """Verify the files that *config* names.

    Raises:
        ConfigError: If one of them cannot be used; the message names it.
    """
    new_client(config, "")


def in_words(exc: OSError | ValueError, config: MqttConfig) -> str:  # noqa: PLR0911  # by cause
    """Return why no connection came about, with the remedy."""
    address = _address(config)
    match exc:
        case socket.gaierror():
            return f"host name {config.host!r} does not resolve; check mqtt.host and the network"
        case ssl.SSLCertVerificationError():
            return (
                f"certificate of {address} is not accepted ({exc.verify_message}); "
                "check mqtt.ca_file, and that mqtt.host is a name in the certificate"
            )
        case ConnectionRefusedError():
            return f"connection refused at {address}; check mqtt.port and that the broker runs"
        case ssl.SSLError() | ConnectionError():
            return f"TLS with {address} fails ({os_reason(exc)}); check mqtt.port and mqtt.ca_file"
        case TimeoutError():
            return f"no answer from {address}; check mqtt.host, mqtt.port and firewalls"
        case ValueError():
            return f"mqtt.host={config.host!r} must be a host name or address"
        case _:
            return f"{address} cannot be reached ({os_reason(exc)})"


def account(config: MqttConfig) -> str:
    """Return in words as whom the broker sees this client."""
    return f"user {config.username!r}" if config.username else "anonymous users"


def _address(config: MqttConfig) -> str:
    return f"{config.host}:{config.port}"
