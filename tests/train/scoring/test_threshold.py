from __future__ import annotations

import numpy as np
import pytest

from edgeasd.common.errors import EdgeasdError
from train.scoring.threshold import choose_thresholds


@pytest.mark.parametrize("n_scores", [2, 5, 20])
def test_choose_thresholds_is_exceeded_as_often_as_asked(n_scores: int) -> None:
    """Of normally distributed scores the stated part lies above, however few the bound rests on."""
    rng = np.random.default_rng(n_scores)
    above = []

    for _ in range(20_000):
        *scores, further = rng.normal(3.0, 2.0, n_scores + 1)
        (one,) = choose_thresholds([scores], 0.05)
        above.append(further >= one.threshold)

    assert np.mean(above) == pytest.approx(0.05, abs=0.006)  # four standard errors


def test_choose_thresholds_few_scores_share_their_spread() -> None:
    """Small sections pool their spread about means of their own, which narrows the bound."""
    alone, _ = choose_thresholds([[1.0, 2.0, 3.0], []], 0.01)
    first, second = choose_thresholds([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]], 0.01)

    assert second.threshold - first.threshold == pytest.approx(10.0)
    assert first.threshold < alone.threshold


def test_choose_thresholds_many_scores_stand_alone() -> None:
    """A section with ten scores keeps its own spread, whatever the others do."""
    scores = list(np.linspace(0.0, 1.0, 10))

    (alone,) = choose_thresholds([scores], 0.01)
    beside, _ = choose_thresholds([scores, [0.0, 100.0]], 0.01)

    assert beside == alone


def test_choose_thresholds_section_without_scores_takes_all() -> None:
    """A section that could spare no clip gets the threshold of all scores together."""
    first, second = choose_thresholds([[1.0, 2.0, 3.0], []], 0.01)

    assert second == first


def test_choose_thresholds_clear_threshold_is_between_mean_and_threshold() -> None:
    """The alarm ends half way back to the mean."""
    (one,) = choose_thresholds([[1.0, 2.0, 3.0]], 0.01)

    assert one.clear_threshold == pytest.approx((2.0 + one.threshold) / 2.0)


def test_choose_thresholds_of_single_scores_says_what_to_do() -> None:
    """No spread can be had from one score a section."""
    with pytest.raises(EdgeasdError, match=r"for a threshold; record more normal sound$"):
        choose_thresholds([[1.0], [2.0]], 0.01)
