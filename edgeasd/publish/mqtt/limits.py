"""The limits that a broker announces, and the sizes of packets."""

from __future__ import annotations

from dataclasses import dataclass

_UNLIMITED = 65_535  # packet numbers


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that a broker announces, as MQTT 5 allows; with MQTT 3.1.1 there are none.

    Attributes:
        receive_maximum: Most messages at QoS 1 that it takes before it has answered the first.
        maximum_packet_size: Bytes of the largest packet that it takes; None if any.
        maximum_qos: Highest quality of service that it supports.
        retain_available: Whether it keeps retained messages.

    References:
        MQTT 5, section 3.2.2.3.
    """

    receive_maximum: int = _UNLIMITED
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True

    @property
    def fault(self) -> str:
        """What the standard forbids among these limits, in words; empty if nothing."""
        if self.receive_maximum == 0:
            return "announces a Receive Maximum of 0, which MQTT 5 forbids"
        if self.maximum_packet_size == 0:
            return "announces a Maximum Packet Size of 0, which MQTT 5 forbids"
        return ""


def packet_size(topic: str, payload: bytes, *, qos: int, version: str) -> int:
    """Return the bytes of the whole packet that publishes *payload* on *topic*.

    References:
        MQTT 5, sections 2.1.4 and 3.3; MQTT 3.1.1, sections 2.2.3 and 3.3.
    """
    return _size(topic, len(payload), qos, version)


def room(topic: str, limit: int, *, version: str) -> int:
    """Return the bytes of payload on *topic* with which a packet stays within *limit*; 0 if none.

    For QoS 1, whose packets are larger than those at QoS 0.  It may be up to three bytes too small,
    where the length of the packet itself takes fewer bytes.
    """
    return max(0, limit - (_size(topic, limit, 1, version) - limit))


def _size(topic: str, n_payload: int, qos: int, version: str) -> int:
    n_number, n_properties = (2 if qos else 0), (1 if version == "5" else 0)
    remaining = 2 + len(topic.encode()) + n_number + n_properties + n_payload
    return 2 + sum(remaining >= 128**digit for digit in (1, 2, 3)) + remaining
