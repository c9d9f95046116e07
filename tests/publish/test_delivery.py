"""Whatever a broker does with one message, or does not take at all, every other one arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edgeasd.common.config import MqttConfig
from edgeasd.publish.delivery.publisher import MqttPublisher, Timing
from edgeasd.publish.mqtt.limits import Limits, packet_size
from edgeasd.publish.topics import Topics
from tests.publish.brokers import wait_until
from tests.publish.scripted_broker import (
    PACKET_TOO_LARGE,
    Answer,
    End,
    Ignore,
    Published,
    Refuse,
    ScriptedBroker,
    Take,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeasd.publish.outbox.outbox import Outbox

pytestmark = pytest.mark.network

TOPICS = Topics("", "n")
MACHINES = ("a", "b", "c")
KINDS = (b"start", b"update", b"end")
QUICK = Timing(reconnect_min_s=0.02, reconnect_max_s=0.1, acknowledge_s=0.25, stop_s=0.5)
VERSIONS = ("3.1.1", "5")
POISON = b"poison " + b"." * 300


@pytest.fixture
def make_publisher(outbox: Outbox) -> Iterator[Callable[..., MqttPublisher]]:
    """Makes publishers, not started, and stops them in the end."""
    made: list[MqttPublisher] = []

    def make(port: int, version: str, **more: Any) -> MqttPublisher:
        config = MqttConfig("127.0.0.1", port, version=version)
        made.append(MqttPublisher(config, TOPICS, outbox, "edgeasd-n", QUICK, **more))
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop()


def put_alarms(outbox: Outbox, poison: dict[str, bytes] | None = None) -> None:
    """Put an alarm of each machine, its messages in turn; *poison* by their ids."""
    for kind in KINDS:
        for machine in MACHINES:
            event_id = f"{machine}-{kind.decode()}"
            outbox.put(event_id, TOPICS.event(machine), (poison or {}).get(event_id, kind))


def say_states(publisher: MqttPublisher, poison: dict[str, bytes] | None = None) -> None:
    """Say the state of each machine, and health; *poison* by topic."""
    for topic in [*map(TOPICS.state, MACHINES), TOPICS.health]:
        publisher.publish_retained(topic, (poison or {}).get(topic, b"well"))


def missing(broker: ScriptedBroker, but: tuple[str, bytes] = ("", b"")) -> dict[str, list[bytes]]:
    """What was taken of each machine whose alarm did not arrive whole and in order."""
    return {
        machine: broker.on(TOPICS.event(machine))
        for machine in MACHINES
        if broker.on(TOPICS.event(machine)) != [kind for kind in KINDS if (machine, kind) != but]
    }


def wait_for(broker: ScriptedBroker, topic: str, payload: bytes) -> None:
    """Wait until *payload*, and no other, arrived on *topic*."""
    wait_until(lambda: broker.on(topic) == [payload], f"{payload!r} on {topic}")


def on_poison(answer: Answer) -> Callable[[Published], Answer]:
    """Take all but the poison."""
    return lambda message: answer if message.payload.startswith(b"poison") else Take()


def told(caplog: pytest.LogCaptureFixture, topic: str) -> list[str]:
    """The warnings about *topic*."""
    return [
        record.message
        for record in caplog.records
        if f"{topic} " in f"{record.message} ".replace(";", " ;")
    ]


UNTAKEN = [
    *[(version, End()) for version in VERSIONS],
    *[(version, Ignore()) for version in VERSIONS],
    ("5", End(PACKET_TOO_LARGE)),
    ("5", Refuse(0x99)),
]


@pytest.mark.parametrize(("version", "answer"), UNTAKEN, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_event_that_is_never_taken_keeps_no_other_back(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    caplog: pytest.LogCaptureFixture,
    *,
    version: str,
    answer: Answer,
    kind: bytes,
) -> None:
    """All others arrive in their order, also those behind it; it is told once with its size."""
    broker = make_broker(on_poison(answer))
    publisher = make_publisher(broker.port, version)
    put_alarms(outbox, {f"b-{kind.decode()}": POISON})

    publisher.start()
    say_states(publisher)
    wait_until(lambda: missing(broker, ("b", kind)) == {}, "all others arrive")
    wait_until(lambda: told(caplog, TOPICS.event("b")), "it is told")
    wait_until(lambda: len(outbox) == (kind == b"end"), "the outbox holds no more than it")
    for topic in [*map(TOPICS.state, MACHINES), TOPICS.health]:
        wait_for(broker, topic, b"well")

    size = packet_size(TOPICS.event("b"), POISON, qos=1, version=version)
    (words,) = told(caplog, TOPICS.event("b"))
    assert f"{size} bytes" in words
    assert outbox.dropped == (kind != b"end")


@pytest.mark.parametrize(("version", "answer"), UNTAKEN, ids=str)
@pytest.mark.parametrize("topic", [TOPICS.state("a"), TOPICS.health, TOPICS.availability])
def test_standing_message_that_is_never_taken_keeps_no_other_back(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    caplog: pytest.LogCaptureFixture,
    *,
    version: str,
    answer: Answer,
    topic: str,
) -> None:
    """Events arrive, those of later too; it is told once with its size, and taken when changed."""
    broker = make_broker(on_poison(answer))
    publisher = make_publisher(broker.port, version)
    put_alarms(outbox)
    say_states(publisher, {topic: POISON})
    publisher.publish_retained(topic, POISON)

    publisher.start()
    wait_until(lambda: missing(broker) == {}, "all events arrive")
    wait_until(lambda: told(caplog, topic), "it is told")
    outbox.put("late", TOPICS.event("late"), b"late")
    publisher.notify()
    wait_until(lambda: broker.on(TOPICS.event("late")) == [b"late"], "a later event arrives")
    wait_until(lambda: topic in publisher.fault, "it is a fault")
    publisher.publish_retained(topic, b"well again")
    wait_until(lambda: broker.on(topic) == [b"well again"], "the new one arrives")
    wait_until(lambda: publisher.fault == "", "the fault is over")

    size = packet_size(topic, POISON, qos=1, version=version)
    (words,) = told(caplog, topic)
    assert f"{size} bytes" in words
    for other in {*map(TOPICS.state, MACHINES), TOPICS.health} - {topic}:
        assert broker.on(other) == [b"well"]


@pytest.mark.parametrize("receive_maximum", [1, 2, 3])
@pytest.mark.parametrize("answer", [Ignore(), End(), Refuse(0x87), Take(0.1)], ids=str)
def test_standing_messages_never_taken_leave_a_place_for_events(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    *,
    answer: Answer,
    receive_maximum: int,
) -> None:
    """However few messages a broker takes at once; events of later arrive too."""
    broker = make_broker(
        lambda message: Take() if message.topic.endswith("/event") else answer,
        Limits(receive_maximum),
    )
    publisher = make_publisher(broker.port, "5")
    say_states(publisher)
    publisher.start()
    wait_until(lambda: broker.published, "something is sent")

    put_alarms(outbox)
    publisher.notify()
    wait_until(lambda: missing(broker) == {}, "all events arrive")

    assert broker.overstepped == []


@pytest.mark.parametrize("version", VERSIONS)
def test_passing_message_that_ends_connections_is_no_longer_sent(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    caplog: pytest.LogCaptureFixture,
    version: str,
) -> None:
    """Scores that a broker does not take keep no event back."""
    broker = make_broker(on_poison(End()))
    publisher = make_publisher(broker.port, version)
    score = TOPICS.score("a")
    publisher.start()

    def is_told() -> bool:
        publisher.publish_transient(score, POISON)
        return bool(told(caplog, score))

    wait_until(is_told, "it is told")
    put_alarms(outbox)
    publisher.notify()
    wait_until(lambda: missing(broker) == {}, "all events arrive")

    assert len(told(caplog, score)) == 1


@pytest.mark.parametrize("n_refusals", [1, 3])
@pytest.mark.parametrize("code", [0x80, 0x87, 0x97])
def test_event_refused_for_a_while_is_not_overtaken(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    code: int,
    n_refusals: int,
) -> None:
    """What is behind it waits until it is taken; other machines do not."""

    def answer(message: Published) -> Answer:
        is_refused = message.topic == TOPICS.event("a") and message.n_before < n_refusals
        return Refuse(code) if is_refused else Take()

    broker = make_broker(answer)
    publisher = make_publisher(broker.port, "5")
    put_alarms(outbox)

    publisher.start()
    wait_until(lambda: missing(broker) == {}, "all events arrive")
    wait_until(lambda: publisher.fault == "", "the fault is over")

    assert outbox.dropped == 0


LIMITS = [
    *[("5", Limits(receive_maximum=n)) for n in (1, 2, 3)],
    *[
        (version, limits)
        for version in VERSIONS
        for limits in (
            Limits(maximum_qos=0),
            Limits(retain_available=False),
            Limits(maximum_qos=0, retain_available=False),
        )
    ],
    ("5", Limits(1, maximum_qos=0, retain_available=False)),
]


@pytest.mark.parametrize(("version", "limits"), LIMITS, ids=str)
def test_limits_of_a_broker_are_kept(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    caplog: pytest.LogCaptureFixture,
    *,
    version: str,
    limits: Limits,
) -> None:
    """Announced ones are never overstepped, and others found out; all that is taken arrives."""
    broker = make_broker(lambda _message: Take(0.002), limits)
    publisher = make_publisher(broker.port, version)
    put_alarms(outbox)
    say_states(publisher)

    publisher.start()
    wait_until(lambda: missing(broker) == {}, "all events arrive")
    for topic in [*map(TOPICS.state, MACHINES), TOPICS.health]:
        wait_for(broker, topic, b"well")

    wait_until(lambda: len(outbox) == 0, "the outbox is empty")
    words = {
        "QoS 0 only": limits.maximum_qos == 0,
        "keeps no retained messages": not limits.retain_available,
    }
    wait_until(
        lambda: {one: one in publisher.fault for one in words} == words, "what lacks is told"
    )
    for one, lacks in words.items():
        assert sum(one in record.message for record in caplog.records) == lacks
    if version == "5":
        assert broker.overstepped == []


# A broker that names no limit is asked one question at a time: it is not asked two at once here.
@pytest.mark.parametrize(("version", "qos"), [("3.1.1", 1), ("5", 1), ("5", 0)])
def test_messages_larger_than_the_broker_takes_are_left_out(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    caplog: pytest.LogCaptureFixture,
    *,
    version: str,
    qos: int,
) -> None:
    """An event and health are told with their size and the limit; all others arrive."""
    broker = make_broker(limits=Limits(1, maximum_packet_size=300, maximum_qos=qos))
    publisher = make_publisher(broker.port, version)
    put_alarms(outbox, {"b-update": POISON})
    say_states(publisher, {TOPICS.health: POISON})

    publisher.start()
    wait_until(lambda: missing(broker, ("b", b"update")) == {}, "all others arrive")
    for topic in map(TOPICS.state, MACHINES):
        wait_for(broker, topic, b"well")
    wait_until(lambda: len(outbox) == 0, "the outbox is empty")
    wait_until(lambda: TOPICS.health in publisher.fault, "health tells of itself")

    for topic in (TOPICS.event("b"), TOPICS.health):
        (words,) = told(caplog, topic)
        assert f"{packet_size(topic, POISON, qos=qos, version=version)} bytes" in words
        assert ("300" in words) == (version == "5")
    assert outbox.dropped == 1
    if version == "5":
        assert broker.overstepped == []
        assert publisher.room(TOPICS.health) == 300 - 2 - 1 - 2 - len(TOPICS.health) - 3
    wait_until(lambda: 0 < (publisher.room(TOPICS.health) or 0) < 300, "what fits is known")


def test_limits_grown_let_what_waits_go_in_order(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
) -> None:
    """Events that are too large wait for as long as nothing later of their machine arrived."""
    broker = make_broker(limits=Limits(maximum_packet_size=300))
    publisher = make_publisher(broker.port, "5")
    for n in range(3):
        outbox.put(str(n), TOPICS.event("a"), b"%d" % n * 400)

    publisher.start()
    wait_until(lambda: "takes at most 300" in publisher.fault, "it is told")
    publisher.stop()
    broker.limits = Limits()
    make_publisher(broker.port, "5").start()
    wait_until(lambda: len(outbox) == 0, "the outbox is empty")

    assert broker.on(TOPICS.event("a")) == [b"%d" % n * 400 for n in range(3)]
    assert outbox.dropped == 0


def test_retained_that_was_taken_is_told(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
) -> None:
    """Who has to clear something learns when that was done; it is not said for ever."""
    broker = make_broker(on_poison(Refuse(0x97)))
    taken: list[tuple[str, bytes]] = []
    publisher = make_publisher(
        broker.port, "5", on_taken=lambda topic, payload: taken.append((topic, payload))
    )
    publisher.publish_retained("old/state", b"")
    publisher.publish_retained("new/state", POISON)

    publisher.start()
    wait_until(lambda: "new/state" in publisher.fault, "the other is refused")

    assert taken == [(TOPICS.availability, b"online"), ("old/state", b"")]
    assert publisher.retained() == {TOPICS.availability: b"online", "new/state": POISON}


def test_retained_to_be_cleared_where_nothing_is_kept_needs_no_sending(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
) -> None:
    """There is nothing to clear."""
    broker = make_broker(limits=Limits(retain_available=False))
    taken: list[tuple[str, bytes]] = []
    publisher = make_publisher(
        broker.port, "5", on_taken=lambda topic, payload: taken.append((topic, payload))
    )
    publisher.publish_retained("old/state", b"")

    publisher.start()
    wait_until(lambda: ("old/state", b"") in taken, "it is told")

    wait_until(lambda: (TOPICS.availability, b"online") in taken, "all is said")
    assert [message.topic for message in broker.published] == [TOPICS.availability]
    assert publisher.retained() == {TOPICS.availability: b"online"}
