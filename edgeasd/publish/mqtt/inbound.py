"""Filters the packets from a broker before the client library reads them.

The library holds a packet in memory however long its header says it is, keeps messages at QoS 2,
and answers every message, even one that was not subscribed to.  So a broken or hostile broker could
fill the memory.  Here the header of each packet decides: messages without a subscription are
skipped unread, and packets that no broker may send end the connection.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_RECEIVED_BYTES = 262_144
"""Largest message read, the health of some five hundred machines; larger ones are skipped."""

_MAX_ANSWER_BYTES = 131_072  # an answer may contain two texts of at most 64 kB each
_MAX_HEADER_BYTES = 5
_MORE = 0x80  # flag that another byte of the length follows

_PUBLISH = 3
_PINGRESP = 13
# CONNACK, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT; QoS 2 is never used.
_ANSWERS = frozenset({2, 4, 9, 11, _PINGRESP, 14})


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker.

    Attributes:
        topic: Topic that it was published on.
        payload: Content of the message.
        retain: Whether the broker had kept it, rather than received it just now.
    """

    topic: str
    payload: bytes
    retain: bool


class Inbound:
    """Cuts the bytes from a broker into packets, and passes on those that are wanted.

    Attributes:
        wants_messages: Whether anything was subscribed to.
        n_pings_answered: Answers to pings so far.
        n_too_large: Messages skipped so far for their size alone.
        fault: How the broker broke the protocol, in words; empty if it did not.
    """

    def __init__(self) -> None:
        self.wants_messages = False
        self.n_pings_answered = 0
        self.n_too_large = 0
        self.fault = ""
        self._header = bytearray()
        self._n_left = 0  # bytes of the present packet still to come
        self._skips = False
        self._ready = bytearray()

    @property
    def has_bytes(self) -> bool:
        """Whether `take` would return any bytes."""
        return bool(self._ready)

    def take(self, n_bytes: int) -> bytes:
        """Remove and return at most *n_bytes* of the wanted packets."""
        taken = bytes(self._ready[:n_bytes])
        del self._ready[:n_bytes]
        return taken

    def feed(self, received: bytes, *, congested: bool = False) -> None:
        """Take the bytes that came.

        Args:
            received: The bytes; they may end anywhere in a packet.
            congested: Whether answers to messages would have to wait in memory.

        Raises:
            ConnectionAbortedError: If the broker broke the protocol; see `fault`.
        """
        rest = memoryview(received)
        while rest:
            if self._n_left:
                part, rest = rest[: self._n_left], rest[self._n_left :]
                self._n_left -= len(part)
                if not self._skips:
                    self._ready += part
            else:
                self._header.append(rest[0])
                rest = rest[1:]
                if len(self._header) > 1 and self._header[-1] < _MORE:
                    self._begin(congested=congested)
                elif len(self._header) == _MAX_HEADER_BYTES:
                    self._refuse("sends a packet whose length cannot be read")

    def _begin(self, *, congested: bool) -> None:
        """Decide what to do with the packet, whose header is complete."""
        kind, flags = divmod(self._header[0], 16)
        self._n_left = sum((digit & 0x7F) << 7 * n for n, digit in enumerate(self._header[1:]))
        self._skips = kind == _PUBLISH and not self._wants(flags >> 1 & 3, congested=congested)
        if kind != _PUBLISH and (kind not in _ANSWERS or flags):
            self._refuse(f"sends a packet that no broker sends (type {kind})")
        elif kind != _PUBLISH and self._n_left > _MAX_ANSWER_BYTES:
            self._refuse(f"sends an answer of {self._n_left} bytes (type {kind})")
        self.n_pings_answered += kind == _PINGRESP
        if not self._skips:
            self._ready += self._header
        self._header.clear()

    def _wants(self, qos: int, *, congested: bool) -> bool:
        # No subscription is at QoS 2.
        is_answerable = qos == 0 or (qos == 1 and not congested)
        if not self.wants_messages or not is_answerable:
            return False
        is_too_large = self._n_left > MAX_RECEIVED_BYTES
        self.n_too_large += is_too_large
        return not is_too_large

    def _refuse(self, fault: str) -> None:
        self.fault = (
            f"{fault}; check that mqtt.host and mqtt.port are those of a broker, and whether it "
            "wants TLS (mqtt.ca_file)"
        )
        raise ConnectionAbortedError(self.fault)
