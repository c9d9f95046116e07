"""Bytes from a broker are cut into packets; messages without a subscription are never held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.publish.mqtt.inbound import MAX_RECEIVED_BYTES, Inbound

CONNACK = b"\x20\x02\x00\x00"
PUBACK = b"\x40\x02\x00\x07"
PINGRESP = b"\xd0\x00"


def packet(first: int, body: bytes) -> bytes:
    """A packet with *body*."""
    digits, n_left = bytearray(), len(body)
    while True:
        n_left, digit = divmod(n_left, 128)
        digits.append(digit | (0x80 if n_left else 0))
        if not n_left:
            return bytes([first, *digits]) + body


def message(n_bytes: int, qos: int = 0) -> bytes:
    """A PUBLISH packet whose length is *n_bytes*."""
    return packet(0x30 | qos << 1, bytes(n_bytes))


def all_of(inbound: Inbound) -> bytes:
    """The bytes that can be taken."""
    return inbound.take(10_000_000)


@pytest.mark.parametrize(
    ("wants_messages", "congested", "sent", "is_given"),
    [
        (False, False, message(10), False),
        (False, False, message(10, qos=1), False),
        (True, False, message(10), True),
        (True, False, message(10, qos=1), True),
        (True, True, message(10), True),
        (True, True, message(10, qos=1), False),  # its answer would wait in memory
        (True, False, message(10, qos=2), False),
        (True, False, message(MAX_RECEIVED_BYTES), True),
        (True, False, message(MAX_RECEIVED_BYTES + 1), False),
        (True, False, message(2_500_000), False),
    ],
)
def test_inbound_gives_only_the_messages_asked_for(
    *, wants_messages: bool, congested: bool, sent: bytes, is_given: bool
) -> None:
    """The answers around a message are passed on, even if the message is skipped."""
    inbound = Inbound()
    inbound.wants_messages = wants_messages

    inbound.feed(PUBACK + sent + PINGRESP, congested=congested)

    assert all_of(inbound) == PUBACK + (sent if is_given else b"") + PINGRESP
    assert inbound.n_pings_answered == 1


def test_inbound_skipping_holds_nothing() -> None:
    """A message of 200 MB without a subscription takes no memory while it comes."""
    inbound = Inbound()
    inbound.feed(b"\x30\x80\x84\xaf\x5f")

    for _ in range(200):
        inbound.feed(bytes(1_000_000))

    assert not inbound.has_bytes
    inbound.feed(PUBACK)
    assert all_of(inbound) == PUBACK


@given(st.lists(st.integers(1, 40), min_size=1), st.data())
def test_inbound_does_not_depend_on_how_it_is_cut(sizes: list[int], data: st.DataObject) -> None:
    """Bytes may come one by one or many packets at once."""
    kinds = st.sampled_from([CONNACK, PUBACK, PINGRESP, message(5), message(300, 1), message(9, 2)])
    stream = b"".join(data.draw(st.lists(kinds, max_size=10)))
    whole, cut = Inbound(), Inbound()
    whole.wants_messages = cut.wants_messages = True

    whole.feed(stream)
    taken, at = b"", 0
    while at < len(stream):
        size = sizes[at % len(sizes)]
        cut.feed(stream[at : at + size])
        taken += cut.take(size)
        at += size

    assert taken + all_of(cut) == all_of(whole)
    assert cut.n_pings_answered == whole.n_pings_answered


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"\x20\x80\x84\xaf\x5f", "sends an answer of 200000000 bytes (type 2)"),
        (b"\x40\xff\xff\xff\x7f", "sends an answer of 268435455 bytes (type 4)"),
        (b"HTTP/1.1 400", "sends a packet that no broker sends (type 4)"),
        (b"\x30\xff\xff\xff\xff", "sends a packet whose length cannot be read"),
        *[
            (bytes([16 * kind, 0]), f"sends a packet that no broker sends (type {kind})")
            for kind in (0, 1, 5, 6, 7, 8, 10, 12, 15)
        ],
    ],
)
def test_inbound_of_what_no_broker_sends_raises(sent: bytes, words: str) -> None:
    """It is refused at its header, before any of it is read."""
    inbound = Inbound()

    with pytest.raises(ConnectionAbortedError):
        inbound.feed(sent)

    assert inbound.fault == (
        f"{words}; check that mqtt.host and mqtt.port are those of a broker, and whether it wants "
        "TLS (mqtt.ca_file)"
    )
    assert not inbound.has_bytes


def test_inbound_counts_what_it_skips_for_its_size() -> None:
    """A subscriber learns that a message was skipped; without a subscription none is counted."""
    inbound = Inbound()
    inbound.feed(message(2_500_000))
    inbound.wants_messages = True

    inbound.feed(message(10) + message(2_500_000) + message(2_500_000, qos=2))

    assert inbound.n_too_large == 1
