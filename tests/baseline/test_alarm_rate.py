"""Tests of the threshold: false alarms as the alarm itself would raise them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeasd.baseline.alarm_rate import (
    AlarmRate,
    NormalScores,
    count_alarms,
    sound_to_factor_2,
    sustained,
)
from edgeasd.baseline.tail import Rate
from edgeasd.common.types import Float64Array, Score
from edgeasd.detect.alarm import Alarm, AlarmSpec

HOP, SPAN, RATE = 4096, 156_160, 16_000
HOUR = 3600 * RATE // HOP
SPEC = AlarmSpec(0.0, 0.0, raise_after=4, clear_after=8, cool_down=30 * RATE)


def normal_run(n_scores: int, seed: int) -> Float64Array:
    """Return scores of noise, each over as many windows as a clip has."""
    noise = np.random.default_rng(seed).normal(size=n_scores + 30)
    scores: Float64Array = np.convolve(noise, np.ones(31), "valid") / np.sqrt(31.0)
    return scores


def scores_of(*runs: Float64Array) -> NormalScores:
    """Return *runs* with the usual geometry."""
    return NormalScores(runs, HOP, SPAN, RATE)


def plainly_counted(run: Float64Array, spec: AlarmSpec) -> int:
    """Return the starts of an alarm that gets every score."""
    alarm = Alarm(spec)
    events = [alarm.process(Score(value, i * HOP, SPAN)) for i, value in enumerate(run)]
    return sum(event is not None and event.type == "start" for event in events)


@pytest.mark.parametrize("n_scores", [0, 3, 4, 5, 50])
def test_sustained_is_the_least_of_consecutive_scores(n_scores: int) -> None:
    """Of four scores the least; of fewer there is none."""
    run = normal_run(n_scores, 1) if n_scores else np.empty(0)

    expected = [min(run[i : i + 4]) for i in range(n_scores - 3)]
    assert sustained(run, 4).tolist() == expected


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 9.0])
@pytest.mark.parametrize("raise_after", [1, 4])
@pytest.mark.parametrize("cool_down_s", [0, 1, 30])
def test_count_is_that_of_an_alarm_that_gets_every_score(
    threshold: float, raise_after: int, cool_down_s: int
) -> None:
    """Passing over the quiet scores changes nothing, whatever the run lengths."""
    run = normal_run(HOUR, 2)
    spec = AlarmSpec(threshold, threshold - 0.4, raise_after, 3, cool_down_s * RATE)

    assert count_alarms(scores_of(run), spec) == plainly_counted(run, spec)


def test_count_adds_up_over_runs() -> None:
    """A recording starts with an alarm that is off."""
    runs = [normal_run(HOUR // 4, seed) for seed in range(4)]
    spec = replace(SPEC, threshold=1.0, clear_threshold=0.5)

    counted = count_alarms(scores_of(*runs), spec)

    assert counted == sum(plainly_counted(run, spec) for run in runs)


def test_threshold_for_a_budget_within_the_sound_gives_that_many_alarms() -> None:
    """Where twenty alarms may come in the sound itself, as many are counted in it."""
    rates = AlarmRate(scores_of(normal_run(5 * HOUR, 3)), SPEC)

    threshold = rates.threshold(4.0 / 3600.0)

    rate, method = rates.at(threshold)
    assert method == "counted"
    assert rates.count(threshold) in {19, 20}
    assert rate.low * 3600.0 < 4.0 < rate.high * 3600.0


def test_threshold_for_a_rare_alarm_keeps_it_rare() -> None:
    """One a day from two hours: in ten other days there are 2 to 20 alarms."""
    rates = AlarmRate(scores_of(normal_run(2 * HOUR, 4)), SPEC)
    threshold = rates.threshold(1.0 / 86_400.0)
    spec = replace(SPEC, threshold=threshold, clear_threshold=rates.clear_threshold(threshold))

    rate, method = rates.at(threshold)
    counted = count_alarms(scores_of(normal_run(240 * HOUR, 5)), spec)

    assert method == "tail"
    assert rate.expected * 86_400.0 == pytest.approx(1.0, rel=0.01)
    assert counted <= 20
    assert rate.low * 864_000.0 <= counted + 3


def test_threshold_falls_as_more_alarms_are_accepted() -> None:
    """From one a year to twenty an hour, counted or fitted."""
    rates = AlarmRate(scores_of(normal_run(2 * HOUR, 6)), SPEC)

    thresholds = [rates.threshold(budget / 3600.0) for budget in (1e-4, 1e-2, 1.0, 4.0, 6.0, 20.0)]

    assert thresholds == sorted(thresholds, reverse=True)


def test_clear_threshold_is_half_way_from_the_typical_score() -> None:
    """Normal sound ends an alarm, as it is below most of the time."""
    run = normal_run(HOUR, 7)
    rates = AlarmRate(scores_of(run), SPEC)

    assert rates.clear_threshold(3.0) == pytest.approx((np.median(run) + 3.0) / 2.0)


def test_bursts_make_the_rate_less_sure() -> None:
    """Where most peaks come in one tenth of the time, they are known to come in bursts."""
    run = normal_run(5 * HOUR, 8)
    uneven = np.concatenate([3.0 * run[: HOUR // 2], run[HOUR // 2 :]])

    even, bursts = AlarmRate(scores_of(run), SPEC), AlarmRate(scores_of(uneven), SPEC)

    assert even.dispersion < 1.5 < bursts.dispersion


def test_too_little_sound_is_refused() -> None:
    """Of a few minutes nothing can be said."""
    with pytest.raises(ValueError, match=r"decisions=\d+ must be at least 20"):
        AlarmRate(scores_of(normal_run(HOUR // 20, 9)), SPEC)


def test_sound_to_factor_2_grows_with_the_width_of_the_interval() -> None:
    """A factor of 4 needs four times the sound, one of 2 no more than there is."""
    assert sound_to_factor_2(Rate(1.0, 0.0, 4.0), 100.0) == pytest.approx(400.0)
    assert sound_to_factor_2(Rate(1.0, 0.5, 2.0), 100.0) == pytest.approx(100.0)
    assert sound_to_factor_2(Rate(1.0, 0.9, 1.1), 100.0) == 100.0
