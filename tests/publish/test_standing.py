"""What holds until further notice is said until it was taken, and the latest only."""

from __future__ import annotations

import pytest

from edgeasd.publish.delivery.standing import Standing


@pytest.fixture
def standing() -> Standing:
    """One message that nobody was told."""
    return Standing({"first": b"1"})


def test_standing_is_sent_once_for_each_time_it_is_said(standing: Standing) -> None:
    """In the order in which the topics were first said."""
    standing.say("second", b"2")
    before = standing.unsent()
    standing.sent("first", b"1")
    standing.sent("second", b"2")

    assert before == [("first", b"1"), ("second", b"2")]
    assert standing.unsent() == []


def test_standing_said_anew_while_it_is_sent_is_sent_again(standing: Standing) -> None:
    """No news is lost between being sent and being noted as sent."""
    standing.say("first", b"new")
    standing.sent("first", b"1")

    assert standing.unsent() == [("first", b"new")]


def test_standing_is_repeated_one_by_one_or_all(standing: Standing) -> None:
    """What was refused, and everything to a new connection; an unknown topic is none."""
    standing.say("second", b"2")
    standing.sent("first", b"1")
    standing.sent("second", b"2")

    standing.repeat("second")
    standing.repeat("unknown")
    one = standing.unsent()
    standing.repeat_all()

    assert one == [("second", b"2")]
    assert standing.unsent() == [("first", b"1"), ("second", b"2")]


def test_standing_cleared_is_forgotten_unless_said_anew(standing: Standing) -> None:
    """Clearing is done once it was taken."""
    standing.say("first", b"")
    standing.say("second", b"2")
    standing.cleared("first")
    standing.cleared("second")

    assert standing.items() == [("second", b"2")]
