"""Tests of the scoring methods, against their formulas written out."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeasd.common.types import Float32Array, Float64Array, Score, Window
from edgeasd.detect.scoring import (
    ClipScorer,
    LogOddsScoring,
    MahalanobisScoring,
    NearestScoring,
    NetworkOutput,
    ReconstructionScoring,
    Scoring,
    clip_score,
    log_odds,
)

N_SAMPLES = 33_280
HOP_SAMPLES = 4_096

# Run in a process of its own, where BLAS takes itself to be on another processor.
SCORE = """
import numpy as np
from edgeasd.detect.scoring import MahalanobisScoring, NearestScoring
rng = np.random.default_rng(2021)
references = rng.normal(1.0, 1.0, (16, 1280)).astype(np.float32)
whitening = rng.normal(0.0, 1.0, (300, 1280)).astype(np.float32)
mean = rng.normal(1.0, 1.0, 1280)
for scoring in NearestScoring(references, 2), MahalanobisScoring(references, [(1.0, whitening)]):
    print(repr(scoring.clip_value(mean)))
"""


def window_at(index: int) -> Window:
    """Return the window of the given *index* in a stream; its values do not matter."""
    return Window(np.zeros((1, 1), np.float32), index * HOP_SAMPLES, N_SAMPLES)


def random_outputs(
    rng: np.random.Generator, n_windows: int, n_dims: int = 6, n_sections: int = 3
) -> list[NetworkOutput]:
    """Return what a network may say of *n_windows* windows."""
    return [
        NetworkOutput(
            rng.normal(1.0, 1.0, n_dims).astype(np.float32),
            rng.normal(0.0, 5.0, n_sections).astype(np.float32),
        )
        for _ in range(n_windows)
    ]


# --- log-odds ------------------------------------------------------------------------------------


def quotient(logits: Float32Array, section: int) -> np.longdouble:
    """Return log((1 - p) / p), Eq. 3 as printed, in the longest numbers that numpy has."""
    powers = np.exp(logits.astype(np.longdouble))
    p = powers[section] / powers.sum()
    result: np.longdouble = np.log((1 - p) / p)
    return result


@pytest.mark.parametrize("n_sections", [2, 3, 6, 41])
def test_log_odds_equals_the_quotient(rng: np.random.Generator, n_sections: int) -> None:
    """The log-odds are Eq. 3 of the paper, where Eq. 3 can be computed."""
    for _ in range(50):
        logits = rng.normal(0.0, 4.0, n_sections).astype(np.float32)
        for section in range(n_sections):
            expected = float(quotient(logits, section))
            assert log_odds(logits, section) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_log_odds_beyond_saturation_is_right() -> None:
    """Where the softmax output rounds to 1 or 0 the log-odds stay finite and right."""
    logits = np.array([100.0, 0.0, 0.0], np.float32)

    sure, wrong = log_odds(logits, 0), log_odds(logits, 1)

    assert sure == pytest.approx(np.log(2.0) - 100.0, rel=1e-15)
    assert wrong == pytest.approx(100.0, rel=1e-15)
    assert log_odds(logits * np.float32(1e30), 0) == pytest.approx(-1e32, rel=1e-6)


def test_log_odds_of_two_sections_is_the_difference() -> None:
    """Between two sections the log-odds are the difference of the logits."""
    logits = np.array([1.5, -2.25], np.float32)

    assert log_odds(logits, 0) == -3.75
    assert log_odds(logits, 1) == 3.75


def test_log_odds_of_many_rows_equals_one_by_one(rng: np.random.Generator) -> None:
    """Rows of logits give the log-odds that each gives alone, in their shape."""
    logits = rng.normal(0.0, 5.0, (4, 5, 3)).astype(np.float32)

    values = log_odds(logits, 1)

    assert values.shape == (4, 5)
    assert values.dtype == np.float64
    for index in np.ndindex(4, 5):
        assert values[index] == log_odds(logits[index], 1)


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=6), st.integers(-1000, 1000))
def test_log_odds_ignores_a_constant(values: list[float], constant: int) -> None:
    """A constant added to all logits changes nothing."""
    logits = np.array(values, np.float64)

    shifted = log_odds(logits + constant, 0)  # type: ignore[arg-type]

    assert shifted == pytest.approx(float(log_odds(logits, 0)), abs=1e-9)  # type: ignore[arg-type]


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=6), st.floats(0.125, 50))
def test_log_odds_falls_as_the_own_logit_rises(values: list[float], rise: float) -> None:
    """The surer the network is of the right section, the lower the score, by as much."""
    logits = np.array(values, np.float64)
    surer = logits.copy()
    surer[0] += rise

    before, after = log_odds(logits, 0), log_odds(surer, 0)  # type: ignore[arg-type]

    assert float(before - after) == pytest.approx(rise, abs=1e-9)


@pytest.mark.parametrize("n_sections", [0, 1])
def test_log_odds_of_one_section_is_refused(n_sections: int) -> None:
    """A softmax over one class is always 1: there is no score."""
    with pytest.raises(ValueError, match=f"^n_sections={n_sections} must be at least 2$"):
        log_odds(np.zeros(n_sections, np.float32), 0)


def test_log_odds_scoring_is_the_mean_over_the_windows(rng: np.random.Generator) -> None:
    """A clip's score is the mean of its windows' log-odds, as the paper says."""
    outputs = random_outputs(rng, 31)

    score = clip_score(LogOddsScoring(2), outputs)

    values = [float(log_odds(output.logits, 2)) for output in outputs if output.logits is not None]
    assert score == pytest.approx(sum(values) / 31, rel=1e-12)


def test_log_odds_scoring_without_logits_is_refused() -> None:
    """A network without a classifier cannot be scored by log-odds."""
    with pytest.raises(ValueError, match=r"^output.logits must not be None$"):
        LogOddsScoring(0).window_value(NetworkOutput(np.ones(3, np.float32), None))


# --- nearest reference ---------------------------------------------------------------------------


def cosine_distance(a: Float64Array, b: Float64Array) -> float:
    """Return 1 - cos of the angle between *a* and *b*, by plain sums."""
    product = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    length_a = sum(float(x) ** 2 for x in a) ** 0.5
    length_b = sum(float(y) ** 2 for y in b) ** 0.5
    return float(1.0 - product / (length_a * length_b))


def nearest_by_loops(x: Float64Array, references: Float32Array, k: int) -> float:
    """Return min over y of d(x, y) / (mean distance of y to its k nearest others), by loops."""
    scores = []
    for i, y in enumerate(references):
        others = sorted(cosine_distance(y, z) for j, z in enumerate(references) if j != i)[:k]
        density = sum(others) / len(others) if others else 1.0
        scores.append(cosine_distance(x, y) / density)
    return min(scores)


@pytest.mark.parametrize("n_references", [1, 2, 3, 20])
@pytest.mark.parametrize("n_neighbours", [1, 2, 5])
def test_nearest_equals_loops(
    rng: np.random.Generator, n_references: int, n_neighbours: int
) -> None:
    """The distance, divided by the local density, is that of plain loops over pairs."""
    references = rng.normal(0.5, 1.0, (n_references, 6)).astype(np.float32)
    scoring = NearestScoring(references, n_neighbours)

    for _ in range(10):
        mean = rng.normal(0.5, 1.0, 6)
        expected = nearest_by_loops(mean, references, n_neighbours)
        assert scoring.clip_value(mean) == pytest.approx(expected, rel=1e-9)


def test_nearest_clip_is_scored_by_its_mean_embedding(rng: np.random.Generator) -> None:
    """A clip's score is that of the mean of its windows' embeddings, not a mean of scores."""
    references = rng.normal(size=(5, 6)).astype(np.float32)
    outputs = random_outputs(rng, 7)

    score = clip_score(NearestScoring(references), outputs)

    mean = np.mean([output.embedding.astype(np.float64) for output in outputs], axis=0)
    assert score == pytest.approx(nearest_by_loops(mean, references, 1), rel=1e-9)


def test_nearest_of_one_reference_is_the_cosine_distance() -> None:
    """One reference has no density: 0 in its direction, 1 across, 2 opposite."""
    scoring = NearestScoring(np.array([[3.0, 0.0]], np.float32))

    assert scoring.clip_value(np.array([7.0, 0.0])) == 0.0
    assert scoring.clip_value(np.array([0.0, 0.1])) == 1.0
    assert scoring.clip_value(np.array([-2.0, 0.0])) == 2.0


def test_nearest_of_identical_references_is_finite_and_ordered() -> None:
    """References that are all the same have no spread, yet farther sound scores higher."""
    scoring = NearestScoring(np.ones((4, 3), np.float32))

    near, far = (
        scoring.clip_value(np.array([1.0, 1.0, 0.9])),
        scoring.clip_value(np.array([1.0, 0, 0])),
    )

    assert np.isfinite([near, far]).all()
    assert 0.0 < near < far


def test_nearest_is_not_inflated_by_a_copy_of_a_reference() -> None:
    """A recording that is there twice does not change a score."""
    rng = np.random.default_rng(3)
    references = rng.normal(size=(8, 16)).astype(np.float32)
    clip = references[0] + 0.1 * rng.normal(size=16)

    once = NearestScoring(references).clip_value(clip)
    twice = NearestScoring(np.concatenate((references, references[:1]))).clip_value(clip)

    assert twice == pytest.approx(once)


def test_nearest_zero_embedding_is_at_distance_one() -> None:
    """An embedding of zeros has no direction and is across from every reference."""
    scoring = NearestScoring(np.array([[3.0, 4.0]], np.float32))

    assert scoring.clip_value(np.zeros(2)) == 1.0


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_nearest_ignores_lengths(seed: int, scale: float, reference_scale: float) -> None:
    """Only directions count, of the embedding and of the references."""
    rng = np.random.default_rng(seed)
    references = rng.normal(size=(4, 3)).astype(np.float32)
    mean = rng.normal(size=3)
    expected = NearestScoring(references).clip_value(mean)
    assume(expected > 1e-3)

    scaled = NearestScoring(references * np.float32(reference_scale)).clip_value(mean * scale)

    assert scaled == pytest.approx(expected, rel=1e-4)


def test_nearest_order_of_references_does_not_matter(rng: np.random.Generator) -> None:
    """References are a set."""
    references = rng.normal(size=(6, 4)).astype(np.float32)
    mean = rng.normal(size=4)

    backwards = NearestScoring(references[::-1], 2).clip_value(mean)

    assert backwards == pytest.approx(NearestScoring(references, 2).clip_value(mean), rel=1e-12)


def test_nearest_without_references_is_refused() -> None:
    """Without normal sound there is no distance to it."""
    with pytest.raises(ValueError, match=r"^len\(references\)=0 must be at least 1$"):
        NearestScoring(np.empty((0, 3), np.float32))


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_nearest_reference_without_direction_is_refused(bad: float) -> None:
    """A reference of zeros, or not of numbers, has no direction."""
    references = np.ones((3, 2), np.float32)
    references[1] = bad

    with pytest.raises(ValueError, match=r"^references must not hold a zero vector$"):
        NearestScoring(references)


# --- clips and streams ---------------------------------------------------------------------------

SCORINGS: list[Scoring] = [
    LogOddsScoring(1),
    NearestScoring(np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32), 2),
    MahalanobisScoring(
        np.random.default_rng(1).normal(size=(9, 6)).astype(np.float32),
        [
            (weight, np.random.default_rng(seed).normal(size=(6, 6)).astype(np.float32))
            for seed, weight in ((2, 1.0), (3, 0.1))
        ],
    ),
    ReconstructionScoring(),
]
IDS = ["log_odds", "nearest", "mahalanobis", "reconstruction"]


@pytest.mark.parametrize("scoring", SCORINGS, ids=IDS)
@pytest.mark.parametrize("n_windows", [1, 2, 31])
def test_clip_scorer_streamed_equals_offline(
    rng: np.random.Generator, scoring: Scoring, n_windows: int
) -> None:
    """Each score is the clip score of the latest windows, bit for bit, with their position."""
    outputs = random_outputs(rng, 70)
    scorer = ClipScorer(scoring, n_windows)

    scores = [scorer.process(window_at(index), output) for index, output in enumerate(outputs)]

    assert scores[: n_windows - 1] == [None] * (n_windows - 1)
    for last in range(n_windows - 1, len(outputs)):
        first = last - n_windows + 1
        assert scores[last] == Score(
            clip_score(scoring, outputs[first : last + 1]),
            first * HOP_SAMPLES,
            (n_windows - 1) * HOP_SAMPLES + N_SAMPLES,
        )


def test_clip_scorer_score_ends_with_its_last_window() -> None:
    """A score's end is the end of the latest window."""
    scorer = ClipScorer(SCORINGS[0], 1)

    score = scorer.process(window_at(3), random_outputs(np.random.default_rng(0), 1)[0])

    assert score is not None
    assert score.end_sample == 3 * HOP_SAMPLES + N_SAMPLES


@pytest.mark.parametrize("scoring", SCORINGS, ids=IDS)
def test_clip_scorer_reset_equals_new(rng: np.random.Generator, scoring: Scoring) -> None:
    """After a reset no window of before is in any score."""
    outputs = random_outputs(rng, 12)
    used, new = ClipScorer(scoring, 5), ClipScorer(scoring, 5)
    for index, output in enumerate(random_outputs(rng, 8)):
        used.process(window_at(index), output)

    used.reset()

    for index, output in enumerate(outputs):
        assert used.process(window_at(100 + index), output) == new.process(
            window_at(100 + index), output
        )


@pytest.mark.parametrize("scoring", SCORINGS, ids=IDS)
def test_clip_score_without_windows_is_refused(scoring: Scoring) -> None:
    """A clip that is too short for a window has no score."""
    with pytest.raises(ValueError, match=r"^len\(outputs\)=0 must be at least 1$"):
        clip_score(scoring, [])


def test_scores_do_not_depend_on_the_blas() -> None:
    """Another release of numpy, another processor or number of threads gives the same score."""
    said = [
        subprocess.run(
            [sys.executable, "-c", SCORE],
            env={**os.environ, "OPENBLAS_CORETYPE": processor, "OPENBLAS_NUM_THREADS": n_threads},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for processor, n_threads in [("Prescott", "1"), ("Haswell", "2")]
    ]

    assert len(said[0].split()) == 2
    assert said[0] == said[1]
