"""A broker, of MQTT 3.1.1 and 5, that treats each message as a test says.

It announces its limits by MQTT 5 and keeps to them under both versions: who oversteps one is
disconnected, as the standard asks, and that is noted.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeasd.publish.mqtt.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 12, 13, 14
PACKET_TOO_LARGE, RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED = 0x95, 0x9A, 0x9B
RECEIVE_MAXIMUM_EXCEEDED = 0x93


@dataclass(frozen=True)
class Published:
    """A message as the broker got it.

    Attributes:
        size: Bytes of the packet.
        n_before: How often the same came before.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    size: int
    n_before: int


@dataclass(frozen=True)
class Take:
    """Acknowledge it, after *delay_s* seconds."""

    delay_s: float = 0.0


@dataclass(frozen=True)
class Refuse:
    """Acknowledge it with a reason code that says no, which is MQTT 5; under 3.1.1 drop it."""

    code: int


@dataclass(frozen=True)
class Ignore:
    """Never answer it."""


@dataclass(frozen=True)
class End:
    """End the connection, in MQTT 5 with a reason code if there is one."""

    code: int | None = None


Answer = Take | Refuse | Ignore | End


def take_all(_message: Published) -> Answer:
    """Take every message."""
    return Take()


@dataclass
class _Client:
    sock: socket.socket
    is_5: bool = False
    n_unanswered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, kind: int, body: bytes = b"") -> None:
        with self.lock, contextlib.suppress(OSError):
            self.sock.sendall(bytes([kind << 4, len(body)]) + body)


class ScriptedBroker:
    """Answers each message as *answer* says.

    Args:
        answer: What to do with a message that keeps to the limits.
        limits: What it takes.
        greets: Whether CONNECT is answered.

    Attributes:
        taken: Messages that it took, in order, with those that came again.
        overstepped: Reason codes of the limits that a client overstepped.
        n_connections: Clients that came.
    """

    def __init__(
        self,
        answer: Callable[[Published], Answer] = take_all,
        limits: Limits | None = None,
        *,
        greets: bool = True,
    ) -> None:
        self.answer = answer
        self.limits = limits or Limits()
        self.greets = greets
        self.published: list[Published] = []
        self.taken: list[Published] = []
        self.overstepped: list[int] = []
        self.n_connections = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """Stop listening; clients that are still there end by themselves."""
        self._listener.shutdown(socket.SHUT_RDWR)  # only this wakes a thread in accept()
        self._threads[0].join()
        self._listener.close()

    def on(self, topic: str) -> list[bytes]:
        """The different payloads taken on *topic*, in the order in which they first came."""
        came = [message.payload for message in list(self.taken) if message.topic == topic]
        return list(dict.fromkeys(came))

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.n_connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        client = _Client(sock)
        with sock, sock.makefile("rb") as stream, contextlib.suppress(OSError, _End):
            for head, body, size in _packets(stream):
                self._handle(client, head, body, size)

    def _handle(self, client: _Client, head: int, body: bytes, size: int) -> None:
        match head >> 4:
            case 1 if self.greets:
                self._greet(client, body)
            case 3:
                self._publish(client, head, body, size)
            case 8:
                client.send(SUBACK, body[:2] + (b"\0" if client.is_5 else b"") + b"\0")
            case 12:
                client.send(PINGRESP)
            case 14:
                raise _End

    def _greet(self, client: _Client, body: bytes) -> None:
        client.is_5, flags = body[6] == 5, body[7]
        for holds, code in (
            (flags & 0x20 and not self.limits.retain_available, RETAIN_NOT_SUPPORTED),
            (flags >> 3 & 3 > self.limits.maximum_qos, QOS_NOT_SUPPORTED),
        ):
            if holds:
                if client.is_5:
                    client.send(CONNACK, bytes([0, code, 0]))
                raise _End
        properties = _properties(self.limits)
        client.send(CONNACK, b"\0\0" + (bytes([len(properties)]) + properties) * client.is_5)

    def _publish(self, client: _Client, head: int, body: bytes, size: int) -> None:
        qos, end = head >> 1 & 3, 2 + int.from_bytes(body[:2], "big")
        number = body[end : end + 2] if qos else b""
        payload = body[end + len(number) + client.is_5 :]
        with self._lock:
            topic = body[2:end].decode()
            n_before = sum((one.topic, one.payload) == (topic, payload) for one in self.published)
            message = Published(topic, payload, qos, bool(head & 1), size, n_before)
            self.published.append(message)
            client.n_unanswered += bool(qos)
        self._require_limits(client, message)
        match self.answer(message):
            case Take(delay_s):
                with self._lock:
                    self.taken.append(message)
                if qos:
                    self._acknowledge(client, number, delay_s)
            case Refuse(code) if qos:
                with self._lock:
                    client.n_unanswered -= 1
                client.send(PUBACK, number + bytes([code, 0]) * client.is_5)
            case End(code):
                self._end(client, code)

    def _acknowledge(self, client: _Client, number: bytes, delay_s: float) -> None:
        time.sleep(delay_s)
        with self._lock:
            client.n_unanswered -= 1
        client.send(PUBACK, number)

    def _require_limits(self, client: _Client, message: Published) -> None:
        limits = self.limits
        for holds, code in (
            (
                limits.maximum_packet_size is not None
                and message.size > limits.maximum_packet_size,
                PACKET_TOO_LARGE,
            ),
            (message.qos > limits.maximum_qos, QOS_NOT_SUPPORTED),
            (message.retain and not limits.retain_available, RETAIN_NOT_SUPPORTED),
            # MQTT 3.1.1 has no words for it.
            (
                client.is_5 and client.n_unanswered > limits.receive_maximum,
                RECEIVE_MAXIMUM_EXCEEDED,
            ),
        ):
            if holds:
                self.overstepped.append(code)
                self._end(client, code)

    @staticmethod
    def _end(client: _Client, code: int | None) -> None:
        if client.is_5 and code is not None:
            client.send(DISCONNECT, bytes([code, 0]))
        raise _End


class _End(Exception):  # noqa: N818  # the end of a connection is no error here
    pass


def _packets(stream: Any) -> Iterator[tuple[int, bytes, int]]:
    """Yield first byte, body and size of each packet."""
    while head := stream.read(1):
        length = n_digits = 0
        while True:
            digit = stream.read(1)[0]
            length |= (digit & 0x7F) << 7 * n_digits
            n_digits += 1
            if digit < 0x80:
                break
        yield head[0], stream.read(length), 1 + n_digits + length


def _properties(limits: Limits) -> bytes:
    """What CONNACK says of *limits*."""
    properties = b""
    if limits.receive_maximum != Limits().receive_maximum:
        properties += b"\x21" + limits.receive_maximum.to_bytes(2, "big")
    if limits.maximum_packet_size is not None:
        properties += b"\x27" + limits.maximum_packet_size.to_bytes(4, "big")
    if limits.maximum_qos < 2:
        properties += b"\x24" + bytes([limits.maximum_qos])
    if not limits.retain_available:
        properties += b"\x25\x00"
    return properties
