"""Tests of the comparison of int8 with float32."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from edgeasd.common.errors import EdgeasdError
from tests.detect.models import load_model, make_model
from train.data.clips import Clip
from train.export.gate import Comparison, compare, time_windows

NUMBERS = range(6)


def make_clips(*labels: str, sections: tuple[str, ...] = ("00", "01")) -> list[Clip]:
    """Return six test clips of each section and label."""
    return [
        Clip(Path(f"{section}_{label}_{number}.wav"), "fan", section, "source", "test", label)
        for section in sections
        for label in labels
        for number in NUMBERS
    ]


def test_compare_takes_the_least_rank_correlation_of_the_sections() -> None:
    """Scores of another scale are as good; an order that changed in one section counts whole."""
    clips = make_clips("normal", "anomaly")
    rng = np.random.default_rng(0)
    exact = rng.normal(size=24)
    small = 3.0 * exact + 1.0
    small[[12, 13]] = small[[13, 12]]

    result = compare(clips, list(exact), list(small), 2.0)

    assert result.correlation == pytest.approx(spearmanr(exact[12:], small[12:]).statistic)
    assert (result.n_clips, result.speedup) == (24, 2.0)


def test_compare_tells_how_much_of_the_official_score_is_lost() -> None:
    """Of scores that told every clip apart, int8 leaves one section at chance and below."""
    clips = make_clips("normal", "anomaly", sections=("00",))
    exact = [float(clip.label == "anomaly") + number / 10 for number, clip in enumerate(clips)]
    small = exact[::-1]

    same = compare(clips, exact, exact, 2.0)
    lost = compare(clips, exact, small, 2.0)

    assert same.score_lost == 0.0
    assert lost.score_lost == 1.0
    assert lost.correlation == pytest.approx(-1.0)


def test_compare_without_labelled_clips_knows_no_loss() -> None:
    """Normal clips alone have ranks, and no official score."""
    clips = make_clips("normal")
    exact = list(np.arange(12.0))

    result = compare(clips, exact, exact, 1.5)

    assert result.score_lost is None
    result.check()
    assert str(result) == (
        "rank correlation 1.0000 over 12 clips, 1.50 times the speed, official score not known"
    )


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize("section", [0, 1])
def test_compare_refuses_scores_of_a_section_that_do_not_differ(section: int) -> None:
    """A graph that answers one section with a constant has no correlation, whichever it is."""
    clips = make_clips("normal")
    exact = np.arange(12.0)
    small = exact.copy()
    small[6 * section : 6 * section + 6] = 1.0

    result = compare(clips, list(exact), list(small), 2.0)

    with pytest.raises(EdgeasdError, match="rank correlation nan over 12 clips"):
        result.check()


@pytest.mark.parametrize("good", [Comparison(0.98, 1.4, 0.01, 40), Comparison(1.0, 2.0, -0.02, 40)])
def test_comparison_at_the_limits_is_accepted(good: Comparison) -> None:
    """As good and quicker is all that is asked."""
    good.check()


@pytest.mark.parametrize(
    ("bad", "figures"),
    [
        (Comparison(0.979, 2.0, 0.0, 40),
         "rank correlation 0.9790 over 40 clips, 2.00 times the speed, official score +0.0000"),
        (Comparison(1.0, 1.39, -0.002, 40),
         "rank correlation 1.0000 over 40 clips, 1.39 times the speed, official score +0.0020"),
        (Comparison(1.0, 2.0, 0.0101, 40),
         "rank correlation 1.0000 over 40 clips, 2.00 times the speed, official score -0.0101"),
        (Comparison(1.0, float("nan"), None, 40),
         "rank correlation 1.0000 over 40 clips, nan times the speed, official score not known"),
    ],
)  # fmt: skip
def test_comparison_beyond_a_limit_is_refused_with_its_figures(
    bad: Comparison, figures: str
) -> None:
    """Whoever asked for int8 is told what it cost, what is needed, and what to do."""
    message = (
        f"int8 is refused: {figures}; needed are a rank correlation of at least 0.98, 1.4 times "
        "the speed and an official score at most 0.01 lower; export it without --int8"
    )

    with pytest.raises(EdgeasdError, match=f"^{re.escape(message)}$"):
        bad.check()


def test_time_windows_gives_seconds_for_each_model(tmp_path: Path) -> None:
    """Each model is timed on the same windows, however few there are."""
    model = load_model(make_model(tmp_path / "tiny.onnx"))

    seconds = time_windows({"a": model, "b": model}, np.zeros((3, 64, 128), np.float32))

    assert seconds.keys() == {"a", "b"}
    assert all(0.0 < one < 1.0 for one in seconds.values())
