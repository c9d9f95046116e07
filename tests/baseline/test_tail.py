"""Tests of the fitted tail: known cases, and whether its promise holds over many draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edgeasd.baseline.tail import ParetoTail, poisson_rate

HOUR_S = 3600.0


def test_poisson_rate_of_many_events_is_their_number_over_the_time() -> None:
    """A hundred events in an hour are known to a fifth; the interval holds the estimate."""
    rate = poisson_rate(100, HOUR_S)

    assert rate.expected * HOUR_S == pytest.approx(100.5)
    assert rate.low * HOUR_S == pytest.approx(81.8, abs=0.5)
    assert rate.high * HOUR_S == pytest.approx(121.1, abs=0.5)


def test_poisson_rate_of_no_event_may_be_0() -> None:
    """Nothing seen in an hour leaves up to three an hour open."""
    rate = poisson_rate(0, HOUR_S)

    assert rate.low == 0.0
    assert 2.0 < rate.high * HOUR_S < 3.0


def test_poisson_rate_of_bursts_is_less_sure() -> None:
    """Events that come four at a time tell as much as a quarter of them."""
    alone, bursts = poisson_rate(100, HOUR_S), poisson_rate(100, HOUR_S, dispersion=4.0)

    assert bursts.low < alone.low < alone.high < bursts.high


def test_tail_at_its_level_has_the_rate_of_the_peaks(rng: np.random.Generator) -> None:
    """Fifty peaks in an hour are fifty an hour."""
    tail = ParetoTail(2.0, 2.0 + rng.exponential(size=50), HOUR_S)

    assert tail.rate(2.0).expected * HOUR_S == pytest.approx(50.0, rel=0.05)
    assert tail.expected(2.0) == pytest.approx(tail.rate(2.0).expected)


def test_tail_of_many_exponential_peaks_falls_exponentially(rng: np.random.Generator) -> None:
    """Of two thousand peaks the rate a hundred times rarer is known to a factor of 2."""
    tail = ParetoTail(0.0, rng.exponential(size=2000), HOUR_S)

    expected = 2000.0 * np.exp(-5.0) / HOUR_S

    assert 0.5 * expected < tail.rate(5.0).expected < 2.0 * expected


def test_tail_does_not_depend_on_the_unit_of_scores(rng: np.random.Generator) -> None:
    """Scores in other units give the same rates at the same places."""
    peaks = rng.exponential(size=40)

    small, large = ParetoTail(0.0, peaks, 1.0), ParetoTail(7.0, 7.0 + 1000.0 * peaks, 1.0)

    assert large.expected(7.0 + 4000.0) == pytest.approx(small.expected(4.0))


@pytest.mark.parametrize("shape", [-0.2, 0.0])
@pytest.mark.parametrize("n_peaks", [10, 30])
def test_threshold_by_the_tail_keeps_its_budget_over_many_draws(n_peaks: int, shape: float) -> None:
    """Peaks of known form: the true rate at the chosen level is on average at most the budget.

    The budget is a twentieth of the rate of the peaks.
    """
    rng = np.random.default_rng(2021)
    true_rates = []
    for _ in range(60):
        peaks = stats.genpareto.rvs(shape, size=n_peaks, random_state=rng)
        tail = ParetoTail(0.0, peaks, 1.0)
        levels = np.linspace(0.0, 30.0, 600)
        chosen = next(level for level in levels if tail.expected(level) <= n_peaks / 20.0)
        true_rates.append(20.0 * stats.genpareto.sf(chosen, shape))

    assert 0.3 < np.mean(true_rates) < 1.25


def test_interval_of_the_tail_holds_the_true_rate_in_95_of_100_draws() -> None:
    """Thirty exponential peaks, a place a tenth as often: the interval is honest."""
    rng = np.random.default_rng(2021)
    held = []
    for _ in range(100):
        n_peaks = rng.poisson(30)
        rate = ParetoTail(0.0, rng.exponential(size=n_peaks), 1.0).rate(np.log(10.0))
        held.append(rate.low <= 3.0 <= rate.high)

    assert np.mean(held) >= 0.9
