"""Sends a message to the broker and back, as the daemon would, without disturbing the daemon.

It uses a topic and a client id of its own, and like the daemon a retained will.  The will is
empty: if the broker ends the connection, it clears the message that was retained.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeasd.common.config.keys import Config
from edgeasd.common.errors import BrokerError
from edgeasd.publish.mqtt.connection import Connection
from edgeasd.publish.mqtt.inbound import Received
from edgeasd.publish.mqtt.limits import packet_size
from edgeasd.publish.topics import Topics

TIMEOUT_S = 5.0
"""Longest wait for a connection, seconds."""
RETURN_S = 3.0
"""Longest wait for a message to come back, seconds."""


@dataclass(frozen=True, slots=True)
class Way:
    """How messages are sent.

    Attributes:
        qos: Quality of service of messages and will.
        retain: Whether the broker is to retain messages and will.
    """

    qos: int
    retain: bool


AS_THE_DAEMON = Way(1, retain=True)
WAYS = (AS_THE_DAEMON, Way(1, retain=False), Way(0, retain=False))
"""Ways from what the daemon needs to the least that every broker accepts."""


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """What became of a message.

    Attributes:
        passes: Whether the broker accepts the message; None if that is not known.
        back_s: Seconds until the message came back; None if it did not, which may be forbidden.
        refusal: Reason that the broker gives for its refusal; empty if it gives none.
        ended: What ended or prevented the connection; None if nothing did.
        is_silent: Whether the broker drops the message without telling the configured version.
        heard: Messages on the topics of the node, retained and new.
    """

    passes: bool | None
    back_s: float | None = None
    refusal: str = ""
    ended: BrokerError | None = None
    is_silent: bool = False
    heard: tuple[Received, ...] = ()


def connect(config: Config, way: Way) -> Connection:
    """Connect as the daemon does, under another client id.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
        BrokerError: If the broker cannot be reached or refuses; the message has the remedy.
    """
    return Connection(
        config.mqtt,
        # With the client id of the daemon, the broker would disconnect a running daemon.
        f"edgeasd-check-{secrets.token_hex(4)}",
        will=(_topics(config).check, b""),
        will_qos=way.qos,
        will_retain=way.retain,
        connect_timeout_s=TIMEOUT_S,
    )


def exchange(config: Config, way: Way, n_bytes: int) -> ExchangeResult:
    """Send a message of *n_bytes* in the given *way*, and wait for it to come back."""
    try:
        outcome = _Exchange(config, way).send(n_bytes)
    except BrokerError as exc:
        return ExchangeResult(False, ended=exc)
    if outcome.passes is None:
        # In MQTT 3.1.1, a broker cannot say that it does not accept a message.
        with contextlib.suppress(BrokerError):  # it may not speak version 5
            told = replace(config, mqtt=replace(config.mqtt, version="5"))
            answer = _Exchange(told, way).send(n_bytes)
            return replace(answer, is_silent=not answer.passes)
    return outcome


class _Exchange:
    """A connection on which one message is sent."""

    def __init__(self, config: Config, way: Way) -> None:
        self._config = config
        self._way = way
        self._topics = _topics(config)
        self._answers: dict[int, str] = {}
        self._heard: list[Received] = []
        self._connection = connect(config, way)

    def send(self, n_bytes: int) -> ExchangeResult:
        """Send a message, clear it if it is retained, and return what became of it."""
        topic = self._topics.check
        payload = secrets.token_hex(8).encode().ljust(n_bytes, b".")
        version, limit = self._config.mqtt.version, self._connection.limits.maximum_packet_size
        size = packet_size(topic, payload, qos=self._way.qos, version=version)
        if limit is not None and size > limit:
            self._connection.close(cleanly=True)
            return ExchangeResult(False, refusal=f"its limit is {limit} bytes a packet")
        try:
            outcome = self._send(topic, payload)
        except BrokerError as exc:
            outcome = ExchangeResult(False, ended=exc)
        self._connection.close(cleanly=outcome.ended is None)
        return replace(outcome, heard=tuple(self._heard))

    def _send(self, topic: str, payload: bytes) -> ExchangeResult:
        topics, qos = self._topics, self._way.qos
        requests = [
            self._connection.subscribe(one, qos=qos)
            for one in (topics.availability, topics.health, topic)
        ]
        self._wait(lambda: all(map(self._connection.is_answered, requests)))
        began_s = time.monotonic()
        number = self._publish(payload)
        self._wait(lambda: self._is_back(payload) or self._answers.get(number))
        back_s = time.monotonic() - began_s
        refusal = self._answers.get(number, "")
        if self._way.retain and not refusal:
            cleared = self._publish(b"")
            self._wait(lambda: cleared in self._answers or number not in self._answers)
        if self._is_back(payload):
            return ExchangeResult(True, back_s)
        says = qos > 0 and self._config.mqtt.version == "5" and number in self._answers
        return ExchangeResult(not refusal if says else None, refusal=refusal)

    def _publish(self, payload: bytes) -> int:
        way = self._way
        return self._connection.publish(self._topics.check, payload, qos=way.qos, retain=way.retain)

    def _is_back(self, payload: bytes) -> bool:
        return any(
            one.topic == self._topics.check and one.payload == payload for one in self._heard
        )

    def _wait(self, holds: Callable[[], object]) -> None:
        """Serve the connection until *holds* is true, or for as long as a message may take."""
        end_s = time.monotonic() + RETURN_S
        while not holds() and (left_s := end_s - time.monotonic()) > 0:
            self._connection.serve(left_s)
            self._heard += self._connection.received()
            self._answers.update(self._connection.answers())


def _topics(config: Config) -> Topics:
    return Topics(config.mqtt.base, config.node)
