"""What a broker takes: what it announces, and what it was seen to take; pure."""

from __future__ import annotations

from dataclasses import dataclass

_UNLIMITED = 65_535  # every packet number


@dataclass(frozen=True, slots=True)
class Limits:
    """What a broker announces that it takes; by MQTT 3.1.1 none does.

    Attributes:
        receive_maximum: Most messages at QoS 1 that it takes before it has answered the first.
        maximum_packet_size: Bytes of the largest packet; None if any.
        maximum_qos: Highest quality of service.
        retain_available: Whether it keeps retained messages.

    References:
        MQTT 5, section 3.2.2.3.
    """

    receive_maximum: int = _UNLIMITED
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True

    @property
    def nonsense(self) -> str:
        """Which limit the standard forbids, in words; empty if none."""
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

    At QoS 1, whose packets are the larger ones.  Up to three bytes less than the very most, where
    the length of the packet takes fewer.
    """
    return max(0, limit - (_size(topic, limit, 1, version) - limit))


def _size(topic: str, n_payload: int, qos: int, version: str) -> int:
    n_number, n_properties = (2 if qos else 0), (1 if version == "5" else 0)
    remaining = 2 + len(topic.encode()) + n_number + n_properties + n_payload
    return 2 + sum(remaining >= 128**digit for digit in (1, 2, 3)) + remaining
