"""What was sent is settled by the broker's answers; what it refused waits."""

from __future__ import annotations

import pytest

from edgeasd.publish.inflight import InFlight


@pytest.fixture
def in_flight() -> InFlight:
    """Nothing sent yet; trials after 1, 2, 4, 4 ... seconds."""
    return InFlight(1.0, 4.0)


def test_in_flight_answered_gives_the_events_taken(in_flight: InFlight) -> None:
    """States and unknown numbers are no events; what is not answered stays."""
    in_flight.add(1, "state", None, 0.0)
    in_flight.add(2, "event", "a", 0.0)
    in_flight.add(3, "event", "b", 0.0)

    taken = in_flight.settle([(1, ""), (2, ""), (99, "")], 1.0)

    assert taken == ["a"]
    assert (len(in_flight), in_flight.event_ids, in_flight.refused) == (1, {"b"}, {})


def test_in_flight_refused_is_due_less_and_less_often(in_flight: InFlight) -> None:
    """Trials are 1, 2, 4 and 4 seconds apart, however often the refusal is repeated."""
    due_s = []

    for tenth in range(130):
        in_flight.add(tenth, "event", "a", tenth / 10)
        in_flight.settle([(tenth, "Not authorized")], tenth / 10)
        if in_flight.is_retry_due(tenth / 10):
            due_s.append(tenth / 10)

    assert due_s == [1.0, 3.0, 7.0, 11.0]
    assert in_flight.refused == {"event": "Not authorized"}


def test_in_flight_accepted_after_a_refusal_is_forgotten(in_flight: InFlight) -> None:
    """The next refusal waits as shortly as the first."""
    in_flight.add(1, "event", "a", 0.0)
    in_flight.settle([(1, "Quota exceeded")], 0.0)
    assert in_flight.is_retry_due(1.0)
    in_flight.add(2, "event", "a", 1.0)
    taken = in_flight.settle([(2, "")], 1.0)

    in_flight.add(3, "event", "b", 10.0)
    in_flight.settle([(3, "Quota exceeded")], 10.0)

    assert taken == ["a"]
    assert not in_flight.is_retry_due(10.9)
    assert in_flight.is_retry_due(11.0)


def test_in_flight_stalls_while_no_event_is_answered(in_flight: InFlight) -> None:
    """Answers to states are no progress of events; without an event nothing is waited for."""
    in_flight.add(1, "state", None, 0.0)
    before = in_flight.stalled_s(100.0)
    in_flight.add(2, "event", "a", 100.0)
    in_flight.add(3, "event", "b", 130.0)
    in_flight.settle([(1, "")], 140.0)
    during = in_flight.stalled_s(150.0)
    in_flight.settle([(2, "")], 160.0)

    assert (before, during, in_flight.stalled_s(170.0)) == (0.0, 50.0, 10.0)


def test_in_flight_reset_forgets_everything(in_flight: InFlight) -> None:
    """A new connection starts with nothing sent and nothing refused."""
    in_flight.add(1, "event", "a", 0.0)
    in_flight.add(2, "event", "b", 0.0)
    in_flight.settle([(1, "Not authorized")], 0.0)

    in_flight.reset()

    assert (len(in_flight), in_flight.refused, in_flight.is_retry_due(1e9)) == (0, {}, False)
