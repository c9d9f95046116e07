"""A broker that sends messages without a subscription, or breaks the protocol, does no harm."""

from __future__ import annotations

import resource
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from edgeasd.common.config.keys import MqttConfig
from edgeasd.common.errors import BrokerError
from edgeasd.publish.delivery.publisher import MqttPublisher, Timing
from edgeasd.publish.mqtt.connection import Connection
from edgeasd.publish.mqtt.inbound import MAX_RECEIVED_BYTES, Received
from edgeasd.publish.topics import Topics
from tests.publish.brokers import Subscriber, wait_until
from tests.publish.test_inbound import packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeasd.publish.outbox.outbox import Outbox
    from tests.publish.brokers import Mosquitto

pytestmark = pytest.mark.network

CONNACK = {"3.1.1": b"\x20\x02\x00\x00", "5": b"\x20\x03\x00\x00\x00"}
TOPIC = b"\x00\x01t"


class RawBroker:
    """Answers the first packet of each client with *greeting*, then sends *more* for ever."""

    def __init__(self, greeting: bytes, more: bytes = b"") -> None:
        self._greeting, self._more = greeting, more
        self.n_sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.recv(1000)
            sock.sendall(self._greeting)
            while self._more:
                sock.sendall(self._more)
                self.n_sent += len(self._more)
            while sock.recv(1000):
                pass


@pytest.fixture
def make_raw_broker() -> Iterator[Callable[..., RawBroker]]:
    """Makes brokers, and closes them in the end."""
    made: list[RawBroker] = []

    def make(greeting: bytes, more: bytes = b"") -> RawBroker:
        made.append(RawBroker(greeting, more))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


def resident_mb() -> float:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def unasked(version: str, qos: int, n_bytes: int) -> bytes:
    """A message without a subscription."""
    body = TOPIC + (b"\x00\x07" if qos else b"") + (b"\x00" if version == "5" else b"")
    return packet(0x30 | qos << 1, body + bytes(n_bytes))


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize(
    ("qos", "n_bytes"), [(0, 100_000), (1, 10), (2, 100_000), (2, 10), (0, 50_000_000)]
)
def test_connection_flooded_with_messages_that_nobody_asked_for_holds_none(
    make_raw_broker: Callable[..., RawBroker], version: str, qos: int, n_bytes: int
) -> None:
    """However much comes, nothing is kept and nothing is answered."""
    broker = make_raw_broker(CONNACK[version], unasked(version, qos, n_bytes))
    connection = Connection(MqttConfig("127.0.0.1", broker.port, version=version), "node")
    before_mb = resident_mb()

    end_s = time.monotonic() + 0.5
    while time.monotonic() < end_s:
        connection.serve(0.1)

    assert connection.received() == []
    assert not connection.is_congested
    assert resident_mb() - before_mb < 40
    connection.close(cleanly=False)


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"\x20\x80\x84\xaf\x5f", "sends an answer of 200000000 bytes (type 2)"),
        (b"\x20\xff\xff\xff\xff\xff", "sends a packet whose length cannot be read"),
        (b"\x62\x02\x00\x01", "sends a packet that no broker sends (type 6)"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "sends a packet that no broker sends (type 4)"),
        (b"\x20\x00", "sends a packet that cannot be read; see in its log why"),
    ],
)
def test_connection_to_what_is_no_broker_says_so(
    make_raw_broker: Callable[..., RawBroker], version: str, greeting: bytes, words: str
) -> None:
    """The connection ends at once, whatever is still to come."""
    broker = make_raw_broker(greeting)

    with pytest.raises(BrokerError) as caught:
        Connection(MqttConfig("127.0.0.1", broker.port, version=version), "node")

    assert str(caught.value).startswith(f"broker at 127.0.0.1:{broker.port} {words}")


@pytest.mark.parametrize(
    "properties",
    [
        b"\x03\x21\x00\x00",  # Receive Maximum 0: nothing could ever be sent
        b"\x05\x27\x00\x00\x00\x00",  # Maximum Packet Size 0
        b"\x06\x21\x00\x05\x21\x00\x06",  # twice
        b"\x05\xff\xff\xff\xff\xff",
    ],
)
def test_connection_to_a_broker_of_impossible_limits_says_so(
    make_raw_broker: Callable[..., RawBroker], properties: bytes
) -> None:
    """The connection ends instead of waiting for ever."""
    broker = make_raw_broker(packet(0x20, b"\x00\x00" + properties))

    with pytest.raises(BrokerError, match=r"which MQTT 5 forbids|cannot be read"):
        Connection(MqttConfig("127.0.0.1", broker.port, version="5"), "node")


@pytest.mark.parametrize("answer", [b"\x40\x04\x00\x01\x33\x00", b"\x40\x01\x00"])
def test_publisher_whose_broker_answers_what_cannot_be_read_keeps_the_event(
    make_raw_broker: Callable[..., RawBroker], outbox: Outbox, answer: bytes
) -> None:
    """The log has words instead of a traceback, and no event counts as delivered."""
    broker = make_raw_broker(CONNACK["5"] + answer)
    outbox.put("1", "t", b"1")
    config = MqttConfig("127.0.0.1", broker.port, version="5")
    publisher = MqttPublisher(config, Topics("", "n"), outbox, "node", Timing(0.02, 0.1, 60.0, 0.1))

    publisher.start()
    wait_until(lambda: publisher.reconnects > 5, "connected again and again")
    wait_until(lambda: "sends a packet that cannot be read" in publisher.fault, "it is told")
    publisher.stop()

    assert len(outbox) == 1


def test_connection_receives_what_it_subscribed_to_and_skips_what_is_too_large(
    mosquitto: Mosquitto, subscribe: Callable[..., Subscriber]
) -> None:
    """One message of another client ends no connection; retained messages are marked as such."""
    config = MqttConfig("127.0.0.1", mosquitto.port)
    sender = Connection(config, "sender")
    everything = subscribe(mosquitto.port)
    for topic, n_bytes in (("a/small", 10), ("a/large", MAX_RECEIVED_BYTES + 1), ("a/next", 10)):
        sender.publish(topic, bytes(n_bytes), qos=1, retain=topic != "a/next")
        while not everything.on(topic):
            sender.serve(0.01)
    connection = Connection(config, "receiver")

    got: list[Received] = []
    number = connection.subscribe("a/#", qos=1)
    while not connection.is_answered(number):
        connection.serve(1.0)
    sender.publish("a/next", bytes(10), qos=1)
    while Received("a/next", bytes(10), retain=False) not in got:
        sender.serve(0.01)
        connection.serve(1.0)
        got += connection.received()

    assert got == [
        Received("a/small", bytes(10), retain=True),
        Received("a/next", bytes(10), retain=False),
    ]
    for one in (sender, connection):
        one.close(cleanly=True)


def test_publisher_hears_what_it_subscribed_to(
    mosquitto: Mosquitto, outbox: Outbox, subscribe: Callable[..., Subscriber]
) -> None:
    """Messages of another client on a topic of ours are received; retained ones are marked."""
    topics = Topics("", "n")
    config = MqttConfig("127.0.0.1", mosquitto.port)
    got: list[Received] = []
    publisher = MqttPublisher(
        config, topics, outbox, "node", subscribes=[topics.health], on_received=got.append
    )
    publisher.publish_retained(topics.health, b"of us")
    subscriber = subscribe(mosquitto.port)

    publisher.start()
    subscriber.wait_for(topics.health, b"of us")
    other = Connection(config, "other")
    other.publish(topics.health, b"of another", qos=1)
    other.serve(1.0)
    wait_until(lambda: Received(topics.health, b"of another", retain=False) in got, "heard")
    other.close(cleanly=True)
    publisher.stop()
