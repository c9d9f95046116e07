"""What fails is tried again less and less often, and soon again once all was well."""

from __future__ import annotations

from edgeasd.common.backoff import BackOff


def waits(back_off: BackOff, n_failures: int, every_s: float = 0.0) -> list[float]:
    """The wait after each of some failures."""
    found = []
    for n in range(n_failures):
        now_s = n * every_s
        back_off.fail(now_s)
        found.append(back_off.wait_s(now_s))
    return found


def test_back_off_doubles_the_wait_up_to_the_longest() -> None:
    """Each wait lies between half of it and the whole."""
    back_off = BackOff(1.0, 6.0)

    found = waits(back_off, 5)

    for wait_s, most_s in zip(found, [1.0, 2.0, 4.0, 6.0, 6.0], strict=True):
        assert most_s / 2 <= wait_s <= most_s
    assert (back_off.n_failures, back_off.next_s) == (5, 6.0)


def test_back_off_of_many_computers_differs() -> None:
    """They do not all come back at the same moment."""
    found = {waits(BackOff(), 1)[0] for _ in range(20)}

    assert len(found) == 20


def test_back_off_is_due_when_the_wait_is_over() -> None:
    """Before the first failure, and from the end of each wait on."""
    back_off = BackOff(8.0, 60.0)
    before = back_off.is_due(0.0)
    back_off.fail(100.0)

    due = [back_off.is_due(time_s) for time_s in (100.0, 103.9, 108.0)]

    assert (before, due) == (True, [False, False, True])
    assert back_off.wait_s(108.0) == 0.0


def test_back_off_begins_anew_when_all_was_well_for_long_or_it_is_told_so() -> None:
    """For longer than the longest wait."""
    back_off = BackOff(1.0, 60.0)

    assert max(waits(back_off, 4, every_s=200.0)) <= 1.0
    assert back_off.next_s == 2.0
    back_off.reset()
    assert back_off.next_s == 1.0
