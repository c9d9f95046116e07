from __future__ import annotations

import numpy as np
import pytest

from train.report.embedding_map import project


@pytest.mark.parametrize(
    ("shape", "name"),
    [((1, 8), "PCA"), ((2, 1), "PCA"), ((29, 8), "PCA"), ((30, 8), "t-SNE"), ((40, 2), "PCA")],
)
def test_project_uses_pca_for_few_clips(
    rng: np.random.Generator, shape: tuple[int, int], name: str
) -> None:
    """Any number of clips and dimensions has a place on the map."""
    places, projection = project(rng.normal(size=shape))

    assert places.shape == (shape[0], 2)
    assert np.all(np.isfinite(places))
    assert projection.startswith(name)


def test_project_of_equal_embeddings_is_one_point() -> None:
    """A network whose embeddings have collapsed is drawn as it is."""
    places, _ = project(np.ones((100, 8)))

    assert np.all(places == 0.0)


def test_project_by_pca_keeps_distances_in_a_plane(rng: np.random.Generator) -> None:
    """Points of a plane keep their distances."""
    plane = rng.normal(size=(20, 2)) @ np.linalg.qr(rng.normal(size=(8, 2)))[0].T

    places, name = project(plane)

    actual, expected = (np.linalg.norm(x[:, None] - x, axis=-1) for x in (places, plane))
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    assert name == "PCA, 100% of the variance"
