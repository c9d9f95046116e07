"""Messages not taken are reported, tried less and less often, and passed over in the end."""

from __future__ import annotations

import pytest

from edgeasd.publish.delivery.messages import Message, Sent
from edgeasd.publish.delivery.troubles import Troubles
from edgeasd.publish.mqtt.limits import Limits

EVENT = Message("event", "a/event", b"." * 100, "a-1")
STATE = Message("retained", "a/state", b"." * 50)
HEALTH = Message("retained", "health", b"." * 900)


@pytest.fixture
def troubles() -> Troubles:
    """Nothing tried yet; refused messages are tried after 1, 2, 4, 4 ... seconds."""
    return Troubles("the broker", 1.0, 4.0)


def sent(message: Message, *, qos: int = 1, retain: bool = False) -> Sent:
    """The message as sent, of 20 bytes more."""
    return Sent(message, len(message.payload) + 20, qos, retain, 0.0, 1)


def trials(troubles: Troubles, refusal: str, seconds: int) -> list[int]:
    """When an event that is never taken is tried: ends connections, or is refused."""
    tried = []
    for second in range(seconds):
        if troubles.verdict(EVENT, 120, second) == "send":
            tried.append(second)
            if refusal:
                troubles.refuse(sent(EVENT), refusal, second)
            else:
                troubles.accuse(sent(EVENT), "ended", second, proven=True)
    return tried


def test_trouble_of_a_refusal_is_tried_less_and_less_often(troubles: Troubles) -> None:
    """After 1, 2 and 4 seconds, and then every 4; told once."""
    assert trials(troubles, "Not authorized", 20) == [0, 1, 3, 7, 11, 15, 19]
    assert troubles.words == [
        "the broker refuses messages on a/event (Not authorized); check its access control list"
    ]


def test_trouble_that_ends_connections_is_tried_seldom(troubles: Troubles) -> None:
    """The wait doubles to 240 seconds, as each trial costs a connection."""
    troubles.accept(sent(STATE))

    assert trials(troubles, "", 1200) == [0, 1, 3, 7, 15, 31, 63, 127, 255, 495, 735, 975]
    assert troubles.words == [
        "the broker ends the connection at a message of 120 bytes on a/event; the largest that it "
        "took has 70; raise its limit"
    ]


def test_trouble_once_may_be_chance(troubles: Troubles) -> None:
    """The first end of a connection is blamed on no message."""
    troubles.accuse(sent(EVENT), "ended", 0.0, proven=True)

    assert troubles.words == []
    assert troubles.verdict(EVENT, 120, 0.5) == "wait"


@pytest.mark.parametrize(
    ("refusal", "n_trials"), [("", 4), ("Payload format invalid", 8), ("Quota exceeded", None)]
)
def test_trouble_of_an_event_is_passed_over_after_some_trials(
    troubles: Troubles, refusal: str, n_trials: int | None
) -> None:
    """Not where the refusal may pass by itself: later events wait then."""
    verdicts = []
    now_s = 0.0
    for _ in range(12):
        now_s += 1000.0
        if refusal:
            troubles.refuse(sent(EVENT), refusal, now_s)
        else:
            troubles.accuse(sent(EVENT), "silent", now_s, proven=True)
        verdicts.append(troubles.verdict(EVENT, 120, now_s + 0.1))

    n_waits = 12 if n_trials is None else n_trials - 1
    assert verdicts == ["wait"] * n_waits + ["pass"] * (12 - n_waits)


def test_trouble_without_proof_is_laid_to_the_broker(troubles: Troubles) -> None:
    """Where nothing at all is taken no event is passed over, and none waits for long."""
    for second in range(0, 1000, 10):
        assert troubles.verdict(EVENT, 120, second) == "send"
        troubles.accuse(sent(EVENT), "silent", second, proven=False)

    assert troubles.words == []
    assert troubles.verdict(EVENT, 120, 991) == "wait"


def test_trouble_is_stale_when_the_broker_may_have_changed(troubles: Troubles) -> None:
    """The first message in trouble is tried again before a later one is sent."""
    troubles.accuse(sent(EVENT), "ended", 100.0, proven=True)

    assert troubles.stale(["a-0", "a-1"], 105.0) is None
    assert troubles.stale(["a-0", "a-1"], 111.0) == "a-1"
    assert troubles.stale(["a-0"], 1e9) is None


def test_trouble_over_is_forgotten_and_frees_the_others(troubles: Troubles) -> None:
    """A broker that takes a message which ended connections has changed: all are tried again."""
    for message in (EVENT, HEALTH):
        for second in (0, 1):
            troubles.accuse(sent(message), "ended", second, proven=True)
    waits = troubles.verdict(HEALTH, 920, 2.0)

    troubles.accept(sent(EVENT))

    assert (waits, troubles.verdict(HEALTH, 920, 2.0)) == ("wait", "send")
    assert troubles.verdict(EVENT, 120, 2.0) == "send"


def test_trouble_of_a_retained_message_ends_with_a_smaller_one(troubles: Troubles) -> None:
    """Its size is probably the reason: a message not much smaller waits like the first."""
    troubles.accept(sent(STATE))
    for second in (0, 1):
        troubles.accuse(sent(HEALTH), "ended", second, proven=True)

    assert troubles.smallest_not_taken == 920
    assert troubles.largest_packet == 460
    assert [troubles.verdict(HEALTH, size, 2.0) for size in (919, 800)] == ["wait", "send"]

    troubles.accept(sent(Message("retained", "health", b"." * 400)))
    assert (troubles.words, troubles.smallest_not_taken) == ([], 920)
    troubles.accept(sent(HEALTH))
    assert troubles.smallest_not_taken is None


def test_trouble_of_events_that_are_gone_is_forgotten(troubles: Troubles) -> None:
    """Events that the outbox dropped are no longer reported."""

    def topics_in_trouble() -> list[str]:
        return [topic for topic in ("a/event", "b/event") if topic in troubles]

    for message in (EVENT, Message("event", "b/event", b"", "b-1"), STATE):
        troubles.refuse(sent(message), "Not authorized", 0.0)
    before = topics_in_trouble()
    troubles.keep_events("a/event", {"a-2"})
    between = topics_in_trouble()
    troubles.keep_topics({"a/event"})

    assert (before, between, topics_in_trouble()) == (["a/event", "b/event"], ["b/event"], [])
    assert len(troubles.words) == 1


def test_troubles_of_every_retained_message_lead_to_none_retained(troubles: Troubles) -> None:
    """Where no limit is announced, each possible reason is left out in turn."""
    tried = []
    for n in range(6):
        tried.append(troubles.flags(STATE))
        troubles.accuse(sent(STATE), "ended", n, proven=False)
    retained_before = troubles.keeps_retained
    troubles.accept(sent(STATE, qos=1, retain=False))

    assert tried == [(1, True), (1, True), (1, False), (0, True), (0, False), (1, False)]
    assert (retained_before, troubles.keeps_retained) == (True, False)
    assert troubles.flags(HEALTH) == (1, False)
    assert "keeps no retained messages" in troubles.words[0]


def test_troubles_of_events_are_no_reason_for_qos_0(troubles: Troubles) -> None:
    """An event is never tried at QoS 0, where it would count as delivered."""
    for n in range(6):
        assert troubles.flags(EVENT) == (1, False)
        troubles.accuse(sent(EVENT), "ended", n, proven=False)


def test_troubles_of_announced_limits_need_no_trial(troubles: Troubles) -> None:
    """Messages are sent within the limits; one that is too large is reported once."""
    limits = Limits(maximum_qos=0, retain_available=False, maximum_packet_size=300)
    troubles.begin(limits)
    troubles.leave_out(HEALTH, 920, 300)
    troubles.leave_out(HEALTH, 930, 300)
    troubles.begin(limits)
    too_large = [words for words in troubles.words if "health" in words]
    troubles.begin(Limits())

    assert too_large == [
        "a message of 920 bytes on health is not sent: the broker takes at most 300; raise its "
        "limit"
    ]
    assert troubles.words == []
