"""The embedded broker is a broker, and for this computer only."""

from __future__ import annotations

import logging
import socket
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from edgeasd.cli.demo.broker import EmbeddedBroker
from edgeasd.common.config.keys import MqttConfig
from edgeasd.common.errors import EdgeasdError
from edgeasd.publish.mqtt.connection import Connection
from tests.publish.brokers import Subscriber, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.network


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """An embedded broker that runs."""
    made = EmbeddedBroker()
    made.start()
    yield made
    made.stop()


def test_embedded_broker_started_accepts_at_once(broker: EmbeddedBroker) -> None:
    """When start returns, a client can connect."""
    with socket.create_connection((broker.host, broker.port), 1):
        pass


def test_embedded_broker_listens_on_the_loopback_interface_only(broker: EmbeddedBroker) -> None:
    """Nobody on the network can reach it."""
    listening = [
        connection.laddr
        for connection in psutil.Process().net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == broker.port
    ]

    assert [address.ip for address in listening] == ["127.0.0.1"]


def test_embedded_broker_delivers_qos_1_and_keeps_retained_messages(
    broker: EmbeddedBroker, subscribe: Callable[..., Subscriber]
) -> None:
    """It acknowledges, passes messages on, and gives retained ones to those who come later."""
    early = subscribe(broker.port)
    connection = Connection(MqttConfig("127.0.0.1", broker.port), "publisher")

    numbers = [
        connection.publish("event", b"1", qos=1),
        connection.publish("state", b"ok", qos=1, retain=True),
    ]
    answers: list[tuple[int, str]] = []
    while len(answers) < len(numbers):
        connection.serve(1.0)
        answers += connection.answers()
    late = subscribe(broker.port)

    connection.close(cleanly=True)
    assert answers == [(number, "") for number in numbers]
    assert (early.wait_for("event", b"1").qos, early.wait_for("state", b"ok").retain) == (1, False)
    assert late.wait_for("state", b"ok").retain
    assert late.on("event") == []


@pytest.mark.parametrize("cleanly", [True, False])
def test_embedded_broker_publishes_the_will_of_a_broken_connection(
    broker: EmbeddedBroker, subscribe: Callable[..., Subscriber], *, cleanly: bool
) -> None:
    """The will is published, retained, if and only if the client vanishes."""
    subscriber = subscribe(broker.port)
    config = MqttConfig("127.0.0.1", broker.port)
    connection = Connection(config, "publisher", will=("availability", b"offline"))

    connection.close(cleanly=cleanly)

    if cleanly:
        Connection(config, "publisher").close(cleanly=True)
        assert subscribe(broker.port).on("availability") == []
    else:
        subscriber.wait_for("availability", b"offline")
        assert subscribe(broker.port).wait_for("availability", b"offline").retain


def test_embedded_broker_that_stops_disconnects_quietly(
    subscribe: Callable[..., Subscriber], caplog: pytest.LogCaptureFixture
) -> None:
    """Stopping closes the port and logs nothing; one never started or stopped already stays so."""
    caplog.set_level(logging.DEBUG)
    EmbeddedBroker().stop()
    broker = EmbeddedBroker()
    broker.start()
    subscribe(broker.port)

    broker.stop()
    broker.stop()

    def is_refused() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex((broker.host, broker.port)) != 0

    wait_until(is_refused, "the port is closed")
    assert [record for record in caplog.records if record.name.startswith("amqtt")] == []


def test_embedded_broker_without_its_library_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has not installed the extra is told so."""
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)

    with pytest.raises(EdgeasdError) as caught:
        EmbeddedBroker().start()

    assert str(caught.value) == (
        "the embedded broker needs the package amqtt; install edgeasd[demo]"
    )
