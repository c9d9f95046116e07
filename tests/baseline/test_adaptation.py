"""Tests of adaptation: what new sound does to references and distances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeasd.baseline.adaptation import adapted_distances, adapted_references, resembles
from edgeasd.baseline.covariance import MahalanobisRecipe, NormalSound, learn_mahalanobis
from edgeasd.common.types import Float64Array
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.model.document import (
    ModelDocument,
    ScoringDocument,
    SectionDocument,
)
from edgeasd.detect.model.matrix import Matrix
from edgeasd.detect.windows import WindowSpec

N_MELS = 6
PLAIN = MahalanobisRecipe(domain_scatter=False)
PRIOR = MahalanobisRecipe(anomaly_prior=True)
EDGE = replace(PRIOR, scatter_windows=8, taper=0.2)


def make_clips(seed: int, n_clips: int, place: float = 0.0) -> list[Float64Array]:
    """Return clips of 38 correlated windows about *place*."""
    rng = np.random.default_rng(seed)
    turn = np.random.default_rng(5).normal(size=(N_MELS, N_MELS))
    return [
        place + (rng.normal(size=N_MELS) + rng.normal(size=(38, N_MELS))) @ turn
        for _ in range(n_clips)
    ]


def document_of(normal: NormalSound, n_mels: int = N_MELS) -> ModelDocument:
    """Return the document of a model that knows *normal*."""
    return ModelDocument(
        id="tiny",
        version="1",
        created="2026-11-22T16:15:34Z",
        machine_type="fan",
        features=FeatureSpec(n_mels=n_mels),
        window=WindowSpec(),
        scoring=ScoringDocument("mahalanobis" if normal.distances else "nearest"),
        sections=tuple(
            SectionDocument(f"{i:02}", 1.0, 0.5, each) for i, each in enumerate(normal.references)
        ),
        distances=normal.distances,
    )


OLD, NEW = make_clips(1, 40), make_clips(2, 10, place=4.0)


def test_adaptation_of_edge_is_training_with_both_domains() -> None:
    """New clips change the distance as if they had been there as a target domain in training."""
    before = document_of(learn_mahalanobis([{"source": OLD}], PRIOR))

    (adapted,) = adapted_distances(before, 0, NEW)

    (expected,) = learn_mahalanobis([{"source": OLD, "target": NEW}], EDGE).distances
    assert adapted.weight == expected.weight
    assert adapted.whitening.values == pytest.approx(expected.whitening.values, rel=1e-3, abs=1e-3)


def test_adaptation_of_the_plain_distance_adds_to_its_covariance() -> None:
    """W' W of the new distance is the inverse of the old covariance and the new scatter."""
    before = document_of(learn_mahalanobis([{"source": OLD}], PLAIN), n_mels=N_MELS + 1)

    (adapted,) = adapted_distances(before, 0, NEW)

    recipe = replace(PLAIN, domain_scatter=True, scatter_windows=8)
    (distance,) = learn_mahalanobis([{"source": OLD, "target": NEW}], recipe).distances
    values, trained = adapted.whitening.values, distance.whitening.values
    assert values.T @ values == pytest.approx(trained.T @ trained, rel=1e-3, abs=1e-4)


def test_adaptation_leaves_the_distance_of_the_source_alone() -> None:
    """Of several distances the first one learns; the others keep the old domain."""
    recipe = replace(EDGE, source_weight=0.1)
    before = document_of(learn_mahalanobis([{"source": OLD}], recipe))

    first, second = adapted_distances(before, 0, NEW)

    assert first != before.distances[0]
    assert second == before.distances[1]


def test_new_sound_is_nearer_after_adaptation() -> None:
    """What was far is near; what was near stays so."""
    before = document_of(learn_mahalanobis([{"source": OLD}], PRIOR))
    reference = adapted_references(before, NEW[:5]).values

    distances = adapted_distances(before, 0, NEW[:5])

    new = np.mean(NEW[7], axis=0)
    old = before.sections[0].references
    assert old is not None
    was = np.linalg.norm(before.distances[0].whitening.values @ (new - old.values[0]))
    now = np.linalg.norm(distances[0].whitening.values @ (new - reference[0]))
    assert now < was / 4.0


def test_references_of_nearest_are_directions_of_every_clip() -> None:
    """A row of length 1 for each new clip, and the distance stays."""
    document = document_of(NormalSound((Matrix(np.eye(N_MELS)),)))

    added = adapted_references(document, NEW).values

    assert added.shape == (10, N_MELS)
    assert np.linalg.norm(added, axis=1) == pytest.approx(np.ones(10))
    assert adapted_distances(document, 0, NEW) == ()


def test_new_sound_like_an_anomaly_resembles_it() -> None:
    """It is told which anomaly; normal sound resembles none."""
    document = document_of(learn_mahalanobis([{"source": OLD}], PRIOR))
    anomalies = [make_clips(3, 1, place=-9.0)[0], make_clips(4, 1, place=4.0)[0]]

    assert resembles(document, 0, NEW, anomalies) == 1
    assert resembles(document, 0, make_clips(6, 10), anomalies) is None
    assert resembles(document, 0, NEW, []) is None
