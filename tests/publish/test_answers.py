"""A message counts as read when the broker answers it, or anything that was sent after it."""

from __future__ import annotations

from edgeasd.publish.mqtt.answers import Answers


def test_answers_at_qos_1_are_the_brokers() -> None:
    """Answers come in their order, each once; a message that was never sent has none."""
    answers = Answers()
    for number in (1, 2, 3):
        answers.sent(number, 1)

    answers.acknowledged(2, "Quota exceeded")
    answers.acknowledged(1, "")
    answers.acknowledged(1, "")
    answers.acknowledged(99, "")

    assert answers.take() == [(2, "Quota exceeded"), (1, "")]
    assert answers.take() == []


def test_answers_at_qos_0_come_with_what_was_sent_later() -> None:
    """An answered ping, or message at QoS 1, tells about all before it, and about none after it."""
    answers = Answers()
    answers.sent(1, 0)
    answers.pinged()
    answers.sent(2, 0)
    answers.sent(3, 1)
    answers.sent(4, 0)

    answers.ping_answered()
    by_ping = answers.take()
    answers.acknowledged(3, "")

    assert by_ping == [(1, "")]
    assert answers.take() == [(2, ""), (3, "")]


def test_answers_need_a_ping_while_none_is_on_its_way() -> None:
    """One ping tells about all before it; an answer without a ping is ignored."""
    answers = Answers()
    needed = [answers.needs_ping]

    answers.sent(1, 0)
    needed.append(answers.needs_ping)
    answers.pinged()
    needed.append(answers.needs_ping)
    answers.sent(2, 0)
    needed.append(answers.needs_ping)
    answers.ping_answered()
    answers.ping_answered()

    assert needed == [False, True, False, True]
    assert answers.needs_ping
    assert answers.take() == [(1, "")]


def test_answers_of_a_number_used_again_are_for_the_later_message() -> None:
    """The library counts from 1 to 65,535 and then starts again at 1."""
    answers = Answers()
    answers.sent(1, 0)
    answers.sent(1, 1)
    answers.pinged()

    answers.ping_answered()

    assert answers.take() == []
