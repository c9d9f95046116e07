"""Whatever a broker does with one message, or does not take at all, every other one arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from edgeasd.common.config.keys import MqttConfig
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
    take_all,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgeasd.publish.outbox.outbox import Outbox

pytestmark = pytest.mark.network

TOPICS = Topics("", "n")
MACHINES = ("a", "b", "c")
KINDS = (b"start", b"update", b"end")
QUICK = Timing(reconnect_min_s=0.02, reconnect_max_s=0.1, acknowledge_s=0.5, stop_s=0.5)
VERSIONS = ("3.1.1", "5")
POISON = b"poison " + b"." * 300
STATES_AND_HEALTH = [*map(TOPICS.state, MACHINES), TOPICS.health]


@dataclass
class Chain:
    """A publisher with an empty outbox, and the broker that it connects to once it is started."""

    broker: ScriptedBroker
    publisher: MqttPublisher
    outbox: Outbox
    caplog: pytest.LogCaptureFixture

    def put_alarms(self, poison: dict[str, bytes] | None = None) -> None:
        """Put an alarm of each machine, its messages in turn; *poison* by their ids."""
        for kind in KINDS:
            for machine in MACHINES:
                event_id = f"{machine}-{kind.decode()}"
                self.outbox.put(event_id, TOPICS.event(machine), (poison or {}).get(event_id, kind))
        self.publisher.notify()

    def put_states(self, poison: dict[str, bytes] | None = None) -> None:
        """Publish the state of each machine, and health; *poison* by topic."""
        for topic in STATES_AND_HEALTH:
            self.publisher.publish_retained(topic, (poison or {}).get(topic, b"well"))

    def wait_for_alarms(self, but: tuple[str, bytes] = ("", b"")) -> None:
        """Wait until each alarm arrived whole and in order, *but* for one message."""
        expected = {
            machine: [kind for kind in KINDS if (machine, kind) != but] for machine in MACHINES
        }

        def taken() -> dict[str, list[bytes]]:
            return {machine: self.broker.on(TOPICS.event(machine)) for machine in MACHINES}

        wait_until(lambda: taken() == expected, f"all events but {but} arrive")

    def wait_for(self, topic: str, payload: bytes) -> None:
        """Wait until *payload*, and no other, arrived on *topic*."""
        wait_until(lambda: self.broker.on(topic) == [payload], f"{payload!r} on {topic}")

    def wait_for_empty_outbox(self, n_left: int = 0) -> None:
        """Wait until no more than *n_left* events wait."""
        wait_until(lambda: len(self.outbox) == n_left, f"{n_left} events are left")

    def told(self, topic: str) -> list[str]:
        """Return the warnings about *topic*."""
        return [
            record.message
            for record in self.caplog.records
            if f"{topic} " in f"{record.message} ".replace(";", " ;")
        ]


@pytest.fixture
def arrange(
    make_broker: Callable[..., ScriptedBroker], outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., Chain]]:
    """Makes chains, not started, to a broker of its own or a given one; stops them in the end."""
    made: list[MqttPublisher] = []

    def arrange(
        answer: Callable[[Published], Answer] = take_all,
        limits: Limits | None = None,
        *,
        version: str = "5",
        broker: ScriptedBroker | None = None,
        **more: Any,
    ) -> Chain:
        broker = broker or make_broker(answer, limits)
        config = MqttConfig("127.0.0.1", broker.port, version=version)
        made.append(MqttPublisher(config, TOPICS, outbox, "edgeasd-n", QUICK, **more))
        return Chain(broker, made[-1], outbox, caplog)

    yield arrange
    for publisher in made:
        publisher.stop()


def on_poison(answer: Answer) -> Callable[[Published], Answer]:
    """Take all but the poison."""
    return lambda message: answer if message.payload.startswith(b"poison") else Take()


UNTAKEN = [
    *[(version, End()) for version in VERSIONS],
    *[(version, Ignore()) for version in VERSIONS],
    ("5", End(PACKET_TOO_LARGE)),
    ("5", Refuse(0x99)),
]


@pytest.mark.parametrize(("version", "answer"), UNTAKEN, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_event_that_is_never_taken_keeps_no_other_back(
    arrange: Callable[..., Chain], *, version: str, answer: Answer, kind: bytes
) -> None:
    """All others arrive in order, also those behind it; it is reported once with its size."""
    chain = arrange(on_poison(answer), version=version)
    topic = TOPICS.event("b")
    chain.put_alarms({f"b-{kind.decode()}": POISON})

    chain.publisher.start()
    chain.put_states()
    chain.wait_for_alarms(but=("b", kind))
    wait_until(lambda: chain.told(topic), "it is reported")
    chain.wait_for_empty_outbox(n_left=int(kind == b"end"))
    for other in STATES_AND_HEALTH:
        chain.wait_for(other, b"well")

    (words,) = chain.told(topic)
    assert f"{packet_size(topic, POISON, qos=1, version=version)} bytes" in words
    assert chain.outbox.dropped == (kind != b"end")


@pytest.mark.parametrize(("version", "answer"), UNTAKEN, ids=str)
@pytest.mark.parametrize("topic", [TOPICS.state("a"), TOPICS.health, TOPICS.availability])
def test_retained_message_that_is_never_taken_keeps_no_other_back(
    arrange: Callable[..., Chain], *, version: str, answer: Answer, topic: str
) -> None:
    """Events arrive, later ones too; it is reported once with its size, and taken when changed."""
    chain = arrange(on_poison(answer), version=version)
    chain.put_alarms()
    chain.put_states({topic: POISON})
    chain.publisher.publish_retained(topic, POISON)

    chain.publisher.start()
    chain.wait_for_alarms()
    wait_until(lambda: chain.told(topic), "it is reported")
    chain.outbox.put("late", TOPICS.event("late"), b"late")
    chain.publisher.notify()
    chain.wait_for(TOPICS.event("late"), b"late")
    wait_until(lambda: topic in chain.publisher.fault, "it is a fault")
    chain.publisher.publish_retained(topic, b"well again")
    chain.wait_for(topic, b"well again")
    wait_until(lambda: chain.publisher.fault == "", "the fault is over")

    (words,) = chain.told(topic)
    assert f"{packet_size(topic, POISON, qos=1, version=version)} bytes" in words
    for other in set(STATES_AND_HEALTH) - {topic}:
        assert chain.broker.on(other) == [b"well"]


@pytest.mark.parametrize("receive_maximum", [1, 2, 3])
@pytest.mark.parametrize("answer", [Ignore(), End(), Refuse(0x87), Take(0.1)], ids=str)
def test_retained_messages_never_taken_leave_a_place_for_events(
    arrange: Callable[..., Chain], *, answer: Answer, receive_maximum: int
) -> None:
    """However few messages a broker takes at once, events that come later arrive too."""
    chain = arrange(
        lambda message: Take() if message.topic.endswith("/event") else answer,
        Limits(receive_maximum),
    )
    chain.put_states()
    chain.publisher.start()
    wait_until(lambda: chain.broker.published, "something is sent")

    chain.put_alarms()
    chain.wait_for_alarms()

    assert chain.broker.overstepped == []


@pytest.mark.parametrize("version", VERSIONS)
def test_transient_message_that_ends_connections_is_no_longer_sent(
    arrange: Callable[..., Chain], version: str
) -> None:
    """Scores that a broker does not take keep no event back."""
    chain = arrange(on_poison(End()), version=version)
    score = TOPICS.score("a")
    chain.publisher.start()

    def is_told() -> bool:
        chain.publisher.publish_transient(score, POISON)
        return bool(chain.told(score))

    wait_until(is_told, "it is reported")
    chain.put_alarms()
    chain.wait_for_alarms()

    assert len(chain.told(score)) == 1


@pytest.mark.parametrize("n_refusals", [1, 3])
@pytest.mark.parametrize("code", [0x80, 0x87, 0x97])
def test_event_refused_for_a_while_is_not_overtaken(
    arrange: Callable[..., Chain], code: int, n_refusals: int
) -> None:
    """Later events of its machine wait until it is taken; other machines do not."""

    def answer(message: Published) -> Answer:
        is_refused = message.topic == TOPICS.event("a") and message.n_before < n_refusals
        return Refuse(code) if is_refused else Take()

    chain = arrange(answer)
    chain.put_alarms()

    chain.publisher.start()
    chain.wait_for_alarms()
    wait_until(lambda: chain.publisher.fault == "", "the fault is over")

    assert chain.outbox.dropped == 0


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
    arrange: Callable[..., Chain], *, version: str, limits: Limits
) -> None:
    """Announced ones are never overstepped, and others found out; all that is taken arrives."""
    chain = arrange(lambda _message: Take(0.002), limits, version=version)
    chain.put_alarms()
    chain.put_states()

    chain.publisher.start()
    chain.wait_for_alarms()
    for topic in STATES_AND_HEALTH:
        chain.wait_for(topic, b"well")

    chain.wait_for_empty_outbox()
    words = {
        "QoS 0 only": limits.maximum_qos == 0,
        "keeps no retained messages": not limits.retain_available,
    }
    wait_until(
        lambda: {one: one in chain.publisher.fault for one in words} == words,
        "it is reported what the broker lacks",
    )
    for one, lacks in words.items():
        assert sum(one in record.message for record in chain.caplog.records) == lacks
    if version == "5":
        assert chain.broker.overstepped == []


# A broker that announces no limit gets suspects one at a time: here it never gets two at once.
@pytest.mark.parametrize(("version", "qos"), [("3.1.1", 1), ("5", 1), ("5", 0)])
def test_messages_larger_than_the_broker_takes_are_left_out(
    arrange: Callable[..., Chain], *, version: str, qos: int
) -> None:
    """An event and health are reported with their size and the limit; all others arrive."""
    limits = Limits(1, maximum_packet_size=300, maximum_qos=qos)
    chain = arrange(limits=limits, version=version)
    publisher = chain.publisher
    chain.put_alarms({"b-update": POISON})
    chain.put_states({TOPICS.health: POISON})

    publisher.start()
    chain.wait_for_alarms(but=("b", b"update"))
    for topic in map(TOPICS.state, MACHINES):
        chain.wait_for(topic, b"well")
    chain.wait_for_empty_outbox()
    wait_until(lambda: TOPICS.health in publisher.fault, "health is reported")

    for topic in (TOPICS.event("b"), TOPICS.health):
        (words,) = chain.told(topic)
        assert f"{packet_size(topic, POISON, qos=qos, version=version)} bytes" in words
        assert ("300" in words) == (version == "5")
    assert chain.outbox.dropped == 1
    if version == "5":
        assert chain.broker.overstepped == []
        assert publisher.room(TOPICS.health) == 300 - 2 - 1 - 2 - len(TOPICS.health) - 3
    wait_until(lambda: 0 < (publisher.room(TOPICS.health) or 0) < 300, "the room is known")


def test_limits_grown_let_what_waits_go_in_order(arrange: Callable[..., Chain]) -> None:
    """Events that are too large wait for as long as nothing later of their machine arrived."""
    chain = arrange(limits=Limits(maximum_packet_size=300))
    for n in range(3):
        chain.outbox.put(str(n), TOPICS.event("a"), b"%d" % n * 400)

    chain.publisher.start()
    wait_until(lambda: "takes at most 300" in chain.publisher.fault, "it is reported")
    chain.publisher.stop()
    chain.broker.limits = Limits()
    arrange(broker=chain.broker).publisher.start()
    chain.wait_for_empty_outbox()

    assert chain.broker.on(TOPICS.event("a")) == [b"%d" % n * 400 for n in range(3)]
    assert chain.outbox.dropped == 0


def test_retained_that_was_taken_is_told(arrange: Callable[..., Chain]) -> None:
    """Whoever clears a topic learns when that is done; it is not sent for ever."""
    taken: list[tuple[str, bytes]] = []
    chain = arrange(
        on_poison(Refuse(0x97)), on_taken=lambda topic, payload: taken.append((topic, payload))
    )
    publisher = chain.publisher
    publisher.publish_retained("old/state", b"")
    publisher.publish_retained("new/state", POISON)

    publisher.start()
    wait_until(lambda: "new/state" in publisher.fault, "the other is refused")

    assert taken == [(TOPICS.availability, b"online"), ("old/state", b"")]
    assert publisher.retained() == {TOPICS.availability: b"online", "new/state": POISON}


def test_retained_to_be_cleared_where_nothing_is_kept_needs_no_sending(
    arrange: Callable[..., Chain],
) -> None:
    """There is nothing to clear."""
    taken: list[tuple[str, bytes]] = []
    chain = arrange(
        limits=Limits(retain_available=False),
        on_taken=lambda topic, payload: taken.append((topic, payload)),
    )
    chain.publisher.publish_retained("old/state", b"")

    chain.publisher.start()
    wait_until(lambda: ("old/state", b"") in taken, "it is told")

    wait_until(lambda: (TOPICS.availability, b"online") in taken, "all is sent")
    assert [message.topic for message in chain.broker.published] == [TOPICS.availability]
    assert chain.publisher.retained() == {TOPICS.availability: b"online"}
