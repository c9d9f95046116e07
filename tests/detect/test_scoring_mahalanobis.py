"""Tests of the Mahalanobis distance and of the autoencoder's error as scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from edgeasd.common.types import Float32Array, Float64Array
from edgeasd.detect.scoring import (
    MahalanobisScoring,
    NetworkOutput,
    ReconstructionScoring,
    clip_score,
)

N_DIMS = 6


def random_covariance(rng: np.random.Generator) -> Float64Array:
    """Return a covariance of *N_DIMS* values that vary together."""
    rows = rng.normal(size=(N_DIMS, N_DIMS))
    covariance: Float64Array = rows @ rows.T + 0.1 * np.eye(N_DIMS)
    return covariance


def distance_of(covariance: Float64Array, weight: float = 1.0) -> tuple[float, Float32Array]:
    """Return *weight* and a W with W' W = the inverse of *covariance*."""
    return weight, np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.float32)


@pytest.mark.parametrize("n_references", [1, 2, 20])
def test_mahalanobis_equals_scipy(rng: np.random.Generator, n_references: int) -> None:
    """The score is the smallest of scipy's distances to the references."""
    covariance = random_covariance(rng)
    references = rng.normal(size=(n_references, N_DIMS)).astype(np.float32)
    scoring = MahalanobisScoring(references, [distance_of(covariance)])

    for _ in range(10):
        mean = rng.normal(size=N_DIMS)
        expected = min(mahalanobis(mean, one, np.linalg.inv(covariance)) for one in references)
        # The whitening is float32.
        assert scoring.clip_value(mean) == pytest.approx(expected, rel=1e-5)


def test_mahalanobis_clip_is_scored_by_its_mean_embedding(rng: np.random.Generator) -> None:
    """A clip's score is that of the mean of its windows' embeddings, not a mean of scores."""
    references = rng.normal(size=(3, N_DIMS)).astype(np.float32)
    scoring = MahalanobisScoring(references, [(1.0, np.eye(N_DIMS, dtype=np.float32))])
    embeddings = rng.normal(size=(7, N_DIMS)).astype(np.float32)

    score = clip_score(scoring, [NetworkOutput(one, None) for one in embeddings])

    mean = embeddings.astype(np.float64).mean(axis=0)
    assert score == pytest.approx(np.linalg.norm(references - mean, axis=1).min(), rel=1e-12)


def test_mahalanobis_is_zero_at_a_reference_and_grows_away_from_it(
    rng: np.random.Generator,
) -> None:
    """Twice as far from the only reference is twice the score."""
    reference = rng.normal(size=(1, N_DIMS)).astype(np.float32)
    scoring = MahalanobisScoring(reference, [distance_of(random_covariance(rng))])
    away = rng.normal(size=N_DIMS)

    once, twice = (scoring.clip_value(reference[0] + n * away) for n in (1.0, 2.0))

    assert scoring.clip_value(reference[0].astype(np.float64)) == pytest.approx(0.0, abs=1e-12)
    assert twice == pytest.approx(2.0 * once, rel=1e-12)


def test_mahalanobis_ignores_the_unit_of_a_value(rng: np.random.Generator) -> None:
    """Values in other units, the covariance with them, give the same score."""
    covariance = random_covariance(rng)
    references = rng.normal(size=(4, N_DIMS)).astype(np.float32)
    mean = rng.normal(size=N_DIMS)
    units = 2.0 ** np.arange(-3, 3)  # of which float32 rounds none

    plain = MahalanobisScoring(references, [distance_of(covariance)])
    scaled = MahalanobisScoring(
        (references * units).astype(np.float32),
        [distance_of(covariance * np.outer(units, units))],
    )

    assert scaled.clip_value(mean * units) == pytest.approx(plain.clip_value(mean), rel=1e-5)


def test_mahalanobis_whitening_may_leave_directions_out() -> None:
    """A W of fewer rows than columns measures within its rows only."""
    scoring = MahalanobisScoring(
        np.zeros((1, 3), np.float32), [(1.0, np.array([[2.0, 0.0, 0.0]], np.float32))]
    )

    assert scoring.clip_value(np.array([1.5, 100.0, -100.0])) == 3.0


def test_mahalanobis_order_of_references_does_not_matter(rng: np.random.Generator) -> None:
    """References are a set."""
    references = rng.normal(size=(6, N_DIMS)).astype(np.float32)
    distance = distance_of(random_covariance(rng))
    mean = rng.normal(size=N_DIMS)

    backwards = MahalanobisScoring(references[::-1], [distance]).clip_value(mean)

    expected = MahalanobisScoring(references, [distance]).clip_value(mean)
    assert backwards == pytest.approx(expected, rel=1e-12)


def test_mahalanobis_without_references_is_refused() -> None:
    """Without normal sound there is no distance to it."""
    with pytest.raises(ValueError, match=r"^len\(references\)=0 must be at least 1$"):
        MahalanobisScoring(np.empty((0, 3), np.float32), [(1.0, np.eye(3, dtype=np.float32))])


def test_mahalanobis_of_two_distances_is_their_weighted_geometric_mean(
    rng: np.random.Generator,
) -> None:
    """Each distance takes its own nearest reference; weights count by their share of the sum."""
    references = rng.normal(size=(5, N_DIMS)).astype(np.float32)
    covariances = [random_covariance(rng), random_covariance(rng)]
    scoring = MahalanobisScoring(
        references, [distance_of(covariances[0], 3.0), distance_of(covariances[1], 1.0)]
    )

    for _ in range(10):
        mean = rng.normal(size=N_DIMS)
        first, second = (
            min(mahalanobis(mean, one, np.linalg.inv(covariance)) for one in references)
            for covariance in covariances
        )
        # The whitening is float32.
        assert scoring.clip_value(mean) == pytest.approx(first**0.75 * second**0.25, rel=1e-5)


def test_mahalanobis_without_distances_is_refused() -> None:
    """Without a way to measure there is no distance."""
    with pytest.raises(ValueError, match=r"^len\(distances\)=0 must be at least 1$"):
        MahalanobisScoring(np.ones((1, 3), np.float32), [])


def test_reconstruction_is_the_mean_of_the_windows_errors() -> None:
    """The graph's embedding is the error of a window, and a clip's score their mean."""
    outputs = [NetworkOutput(np.array([error], np.float32), None) for error in (0.5, 1.0, 3.0)]

    assert clip_score(ReconstructionScoring(), outputs) == 1.5
