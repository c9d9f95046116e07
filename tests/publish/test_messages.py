"""Messages are known until they are answered, and the latest on a topic is the one sent."""

from __future__ import annotations

import pytest

from edgeasd.publish.delivery.messages import InFlight, Message, RetainedMessages

STATE = Message("retained", "a/state", b"ok")
SCORE = Message("transient", "a/score", b"1.0")


def event(name: str, topic: str = "a/event") -> Message:
    """An event of that name."""
    return Message("event", topic, name.encode(), name)


@pytest.fixture
def in_flight() -> InFlight:
    """Nothing sent yet."""
    return InFlight()


def add(in_flight: InFlight, number: int, message: Message, now_s: float = 0.0) -> None:
    """Send a message as *number*; transient ones at QoS 0."""
    qos = 0 if message.kind == "transient" else 1
    in_flight.add(number, message, size=50, qos=qos, retain=False, now_s=now_s)


def test_in_flight_answered_is_no_longer_on_its_way(in_flight: InFlight) -> None:
    """An unknown number has no message; unanswered messages stay."""
    add(in_flight, 1, STATE)
    add(in_flight, 2, event("a"))
    add(in_flight, 3, SCORE)

    answered = in_flight.settle(2, 1.0)

    assert answered is not None
    assert answered.message == event("a")
    assert in_flight.settle(99, 1.0) is None
    assert [sent.message for sent in in_flight.unanswered] == [STATE, SCORE]
    assert ("a/event" in in_flight, "a/state" in in_flight) == (False, True)


def test_in_flight_counts_what_takes_a_place_at_the_broker(in_flight: InFlight) -> None:
    """Messages at QoS 0 take no place."""
    add(in_flight, 1, STATE)
    add(in_flight, 2, event("a"))
    add(in_flight, 3, SCORE)

    assert (in_flight.count("event"), in_flight.count("event", "retained", "transient")) == (1, 2)


def test_in_flight_transient_takes_the_place_of_the_one_before(in_flight: InFlight) -> None:
    """Messages whose answer is not awaited do not pile up."""
    for number in range(1, 100):
        add(in_flight, number, SCORE)

    assert len(in_flight) == 1
    assert in_flight.settle(99, 0.0) is not None
    assert len(in_flight) == 0


def test_in_flight_stalls_while_nothing_is_answered(in_flight: InFlight) -> None:
    """Time counts from the first message and from each answer; transient ones are not awaited."""
    add(in_flight, 1, SCORE, 0.0)
    before = in_flight.stalled_s(100.0)
    add(in_flight, 2, STATE, 100.0)
    add(in_flight, 3, event("a"), 130.0)
    during = in_flight.stalled_s(150.0)
    in_flight.settle(2, 160.0)
    after = in_flight.stalled_s(170.0)
    in_flight.settle(3, 180.0)

    assert (before, during, after, in_flight.stalled_s(200.0)) == (0.0, 50.0, 10.0, 0.0)


def test_in_flight_skipped_is_what_only_later_ones_were_answered_of(in_flight: InFlight) -> None:
    """A slow broker skips nothing: it answers in the order of sending."""
    add(in_flight, 1, event("a", "a/event"), 0.0)
    add(in_flight, 2, event("b", "b/event"), 1.0)
    add(in_flight, 3, event("c", "c/event"), 2.0)

    nothing = in_flight.skipped(100.0, 60.0)
    in_flight.settle(2, 100.0)
    skipped = in_flight.skipped(100.0, 60.0)
    in_flight.settle(1, 100.0)

    assert nothing is None
    assert skipped is not None
    assert skipped.message == event("a", "a/event")
    assert in_flight.skipped(100.0, 200.0) is None
    assert in_flight.skipped(100.0, 60.0) is None


@pytest.fixture
def retained() -> RetainedMessages:
    """One message, not sent yet."""
    return RetainedMessages({"first": b"1"})


def test_retained_is_sent_once_for_each_time_it_is_put(retained: RetainedMessages) -> None:
    """They are sent in the order in which the topics were first put."""
    retained.put("second", b"2")
    before = retained.unsent()
    retained.sent("first", b"1")
    retained.sent("second", b"2")

    assert before == [("first", b"1"), ("second", b"2")]
    assert retained.unsent() == []


def test_retained_put_anew_while_it_is_sent_is_sent_again(retained: RetainedMessages) -> None:
    """A change between sending and noting it is not lost."""
    retained.put("first", b"new")
    retained.sent("first", b"1")

    assert retained.unsent() == [("first", b"new")]


def test_retained_is_repeated_one_by_one_or_all(retained: RetainedMessages) -> None:
    """A refused one, or all over a new connection; an unknown topic is ignored."""
    retained.put("second", b"2")
    retained.sent("first", b"1")
    retained.sent("second", b"2")

    retained.repeat("second")
    retained.repeat("unknown")
    one = retained.unsent()
    retained.repeat_all()

    assert one == [("second", b"2")]
    assert retained.unsent() == [("first", b"1"), ("second", b"2")]


def test_retained_cleared_is_forgotten_unless_put_anew(retained: RetainedMessages) -> None:
    """A topic is cleared once the broker took the empty message."""
    retained.put("first", b"")
    retained.put("second", b"2")
    retained.taken("first", b"")
    retained.taken("second", b"2")

    assert retained.items() == [("second", b"2")]
