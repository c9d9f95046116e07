"""The size of a packet is what the broker counts."""

from __future__ import annotations

import pytest

from edgeasd.publish.mqtt.limits import Limits, packet_size, room


@pytest.mark.parametrize(
    ("version", "qos", "n_bytes", "size"),
    [
        # By hand: 1 + length of the length + 2 + len("ä/b") + number + properties + payload.
        ("3.1.1", 0, 0, 1 + 1 + 2 + 4),
        ("3.1.1", 1, 0, 1 + 1 + 2 + 4 + 2),
        ("5", 0, 0, 1 + 1 + 2 + 4 + 1),
        ("5", 1, 100, 1 + 1 + 2 + 4 + 2 + 1 + 100),
        ("5", 1, 118, 1 + 1 + 127),
        ("5", 1, 119, 1 + 2 + 128),
        ("3.1.1", 1, 16_383 - 8, 1 + 2 + 16_383),
        ("3.1.1", 1, 16_384 - 8, 1 + 3 + 16_384),
        ("3.1.1", 1, 2_097_152 - 8, 1 + 4 + 2_097_152),
    ],
)
def test_packet_size_counts_header_topic_number_and_properties(
    version: str, qos: int, n_bytes: int, size: int
) -> None:
    """It is that of the whole packet, as MQTT 5 defines its Maximum Packet Size."""
    assert packet_size("ä/b", bytes(n_bytes), qos=qos, version=version) == size


def test_room_fits_and_wastes_next_to_nothing() -> None:
    """A payload of that many bytes fits, one with four more does not."""

    def size(n_bytes: int) -> int:
        return packet_size("acme/edgeasd", bytes(n_bytes), qos=1, version="5")

    for limit in [*range(1, 400), 16_380, 16_400, 2_097_200]:
        n_bytes = room("acme/edgeasd", limit, version="5")

        assert n_bytes == 0 or size(n_bytes) <= limit
        assert size(n_bytes + 4) > limit


def test_limits_that_the_standard_forbids_are_told() -> None:
    """With a Receive Maximum of 0 no message could ever be sent."""
    assert Limits(receive_maximum=0).fault.startswith("announces a Receive Maximum of 0")
    assert Limits(maximum_packet_size=0).fault.startswith("announces a Maximum Packet Size of 0")
    assert Limits().fault == ""
