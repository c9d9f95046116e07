"""When to try again what failed."""

from __future__ import annotations

import pytest

from edgeasd.common.backoff import BackOff


def test_waits_double_up_to_the_longest() -> None:
    """Each wait is between three quarters and all of a delay that doubles at each failure."""
    back_off, now_s, delays_s = BackOff(1.0, 5.0), 100.0, []
    for _ in range(5):
        wait_s = back_off.fail(now_s)
        delays_s.append(back_off.delay_s)
        assert 0.75 * back_off.delay_s <= wait_s <= back_off.delay_s
        assert not back_off.is_due(now_s + 0.99 * wait_s)
        now_s += wait_s
        assert back_off.is_due(now_s)

    assert delays_s == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert back_off.n_failures == 5


def test_waits_differ_for_those_who_failed_together() -> None:
    """Ten that failed at the same moment do not try again at the same moment."""
    assert len({BackOff(10.0).fail(0.0) for _ in range(10)}) > 1


@pytest.mark.parametrize(("well_s", "delay_s"), [(4.0, 2.0), (9.0, 1.0)])
def test_failure_after_a_long_time_counts_as_the_first(well_s: float, delay_s: float) -> None:
    """Only if all was well for longer than the longest wait."""
    back_off = BackOff(1.0, 5.0)
    due_s = back_off.fail(0.0)

    back_off.fail(due_s + well_s)

    assert back_off.delay_s == delay_s


def test_failure_after_a_reset_counts_as_the_first() -> None:
    """Whoever knows that all is well need not wait for the longest delay to pass."""
    back_off = BackOff(1.0, 60.0)
    for now_s in (0.0, 1.0, 3.0):
        back_off.fail(now_s)

    back_off.reset()
    back_off.fail(4.0)

    assert back_off.delay_s == 1.0
