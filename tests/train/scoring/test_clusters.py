from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from edgeasd.baseline.covariance import (
    MahalanobisRecipe,
    NormalSound,
    anomaly_prior,
    learn_covariance,
)
from edgeasd.common.types import Float64Array
from edgeasd.detect.model.document import ScoringDocument
from edgeasd.detect.model.methods import make_scoring
from edgeasd.detect.scoring import Scoring
from tests.train.toy import RECIPE
from train.data.clips import DOMAINS, Clip
from train.scoring.clusters import ClipEmbeddings, learn_normal

N_DIMS = 5
LEAST = 1e-6 * np.eye(N_DIMS)


def make_clips(counts: dict[tuple[str, str], int]) -> list[Clip]:
    """Return so many clips of each section and domain."""
    return [
        Clip(Path(f"{section}_{domain}_{number}.wav"), "fan", section, domain, "train", "normal")
        for (section, domain), n_clips in counts.items()
        for number in range(n_clips)
    ]


COUNTS = {("00", "source"): 40, ("00", "target"): 3, ("01", "source"): 30, ("01", "target"): 4}
CLIPS = make_clips(COUNTS)


@pytest.fixture
def embeddings() -> Float64Array:
    """Correlated embeddings, each section and domain at its own place."""
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(N_DIMS, N_DIMS))
    places = {key: rng.normal(0.0, 3.0, N_DIMS) for key in COUNTS}
    return np.stack(
        [places[clip.section, clip.domain] + turn @ rng.normal(size=N_DIMS) for clip in CLIPS]
    )


def test_mahalanobis_is_the_distance_of_scipy_with_domain_scatter(
    embeddings: Float64Array,
) -> None:
    """Score by references and whitening = smallest Mahalanobis distance to a domain's mean."""
    recipe = MahalanobisRecipe()
    normal = learn(CLIPS, embeddings, recipe)
    source = {name: rows_of(embeddings, name, "source") for name in ("00", "01")}
    target = {name: rows_of(embeddings, name, "target") for name in ("00", "01")}

    residuals = np.concatenate([rows - rows.mean(axis=0) for rows in source.values()])
    covariance = LedoitWolf(assume_centered=True).fit(residuals).covariance_ + LEAST
    for name in ("00", "01"):
        shift = target[name].mean(axis=0) - source[name].mean(axis=0)
        within = np.cov(target[name], rowvar=False, bias=True)
        covariance = covariance + (np.outer(shift, shift) + within) / 2

    for index, name in enumerate(("00", "01")):
        means = [source[name].mean(axis=0), target[name].mean(axis=0)]
        assert_distances(normal, index, means, covariance)


def test_mahalanobis_without_scatter_has_the_source_covariance(embeddings: Float64Array) -> None:
    """Without the scatter the target clips are references, and say nothing about the spread."""
    normal = learn(CLIPS, embeddings, MahalanobisRecipe(domain_scatter=False))

    source = [rows_of(embeddings, name, "source") for name in ("00", "01")]
    residuals = np.concatenate([rows - rows.mean(axis=0) for rows in source])
    covariance = LedoitWolf(assume_centered=True).fit(residuals).covariance_ + LEAST
    means = [rows_of(embeddings, "00", domain).mean(axis=0) for domain in ("source", "target")]
    assert_distances(normal, 0, means, covariance)


def test_mahalanobis_diagonal_weighs_each_value_by_its_variance(embeddings: Float64Array) -> None:
    """The diagonal form is the distance of values divided by their spread."""
    recipe = MahalanobisRecipe("clips", "diagonal", domain_scatter=False)
    normal = learn(CLIPS, embeddings, recipe)

    source = [rows_of(embeddings, name, "source") for name in ("00", "01")]
    residuals = np.concatenate([rows - rows.mean(axis=0) for rows in source])
    std = np.sqrt(np.square(residuals).mean(axis=0) + 1e-6)
    (distance,) = normal.distances
    assert distance.whitening.values == pytest.approx(np.diag(1.0 / std), rel=1e-6)


def test_mahalanobis_references_are_means_or_clips(embeddings: Float64Array) -> None:
    """Of a section: the mean of each domain, source first, or every clip."""
    means = learn(CLIPS, embeddings, MahalanobisRecipe("means")).references
    clips = learn(CLIPS, embeddings, MahalanobisRecipe("clips")).references

    for index, name in enumerate(("00", "01")):
        rows = [rows_of(embeddings, name, domain) for domain in ("source", "target")]
        expected = np.stack([one.mean(axis=0) for one in rows])
        assert means[index].values == pytest.approx(expected, rel=1e-6)
        assert clips[index].values == pytest.approx(np.concatenate(rows), rel=1e-6)


def test_mahalanobis_does_not_change_with_the_basis(embeddings: Float64Array) -> None:
    """Turned and moved embeddings keep their distances; the covariance turns with them."""
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(N_DIMS, N_DIMS)))[0]
    move = rng.normal(size=N_DIMS)
    clips = embeddings + 2.0

    before = scoring(learn(CLIPS, embeddings, MahalanobisRecipe()))
    after = scoring(learn(CLIPS, embeddings @ turn + move, MahalanobisRecipe()))

    # References and whitening are float32.
    assert [after.clip_value(one @ turn + move) for one in clips] == pytest.approx(
        [before.clip_value(one) for one in clips], rel=1e-4
    )


def test_mahalanobis_with_source_weight_has_two_distances(embeddings: Float64Array) -> None:
    """Beside the distance by all that varies stands that by the source domain, with its weight."""
    both = learn(CLIPS, embeddings, MahalanobisRecipe(source_weight=0.1)).distances
    whole = learn(CLIPS, embeddings, MahalanobisRecipe()).distances
    source = learn(CLIPS, embeddings, MahalanobisRecipe(domain_scatter=False)).distances

    assert [one.weight for one in both] == [1.0, 0.1]
    assert [one.weight for one in whole] == [1.0]
    assert both[0].whitening == whole[0].whitening
    assert both[1].whitening == source[0].whitening


@pytest.mark.parametrize("sections", [["00", "01"], ["00"]])
def test_mahalanobis_with_prior_is_the_score_test(
    sections: list[str], embeddings: Float64Array
) -> None:
    """The squared score is ``(x - y)' C^-1 A C^-1 (x - y)``; one section is enough for it."""
    clips = [clip for clip in CLIPS if clip.section in sections]
    rows = embeddings[[clip.section in sections for clip in CLIPS]]
    windows = of_windows(clips, rows)
    groups = [
        {
            domain: [
                one.windows
                for one in windows
                if (one.clip.section, one.clip.domain) == (name, domain)
            ]
            for domain in ("source", "target")
        }
        for name in sections
    ]
    recipe = MahalanobisRecipe(anomaly_prior=True)

    normal = learn(clips, rows, recipe, sections)

    inverse = np.linalg.inv(learn_covariance(groups, recipe))
    weights = inverse @ anomaly_prior(groups) @ inverse
    for clip in np.random.default_rng(6).normal(0.0, 3.0, (10, N_DIMS)):
        differences = [clip - rows_of(embeddings, "00", one).mean(axis=0) for one in DOMAINS]
        expected = min(np.sqrt(one @ weights @ one) for one in differences)
        # References and whitening are float32.
        assert scoring(normal).clip_value(clip) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("references", ["means", "clips"])
@pytest.mark.parametrize(
    "counts",
    [
        {("00", "source"): 20, ("00", "target"): 3},
        {("00", "source"): 20},
        {("00", "target"): 2},
        {("00", "source"): 2, ("00", "target"): 1},
        {("00", "source"): 1, ("01", "target"): 2},
    ],
    ids=["one_section", "one_domain", "target_only", "few_clips", "one_clip"],
)
def test_mahalanobis_of_little_data_is_finite(
    counts: dict[tuple[str, str], int], references: str, covariance: str
) -> None:
    """One section, one domain or fewer clips than dimensions still give a distance."""
    clips = make_clips(counts)
    rng = np.random.default_rng(3)
    sections = sorted({section for section, _ in counts})
    rows = rng.normal(size=(len(clips), N_DIMS))
    recipe = MahalanobisRecipe(references, covariance)

    normal = learn(clips, rows, recipe, sections)

    near, far = (scoring(normal).clip_value(rows[0] + offset) for offset in (0.1, 10.0))
    assert np.isfinite([near, far]).all()
    assert 0.0 < near < far


def test_nearest_references_have_length_1_and_keep_target_clips(embeddings: Float64Array) -> None:
    """Every target clip is a reference; source clips are drawn together to centroids."""
    normal = learn_normal("nearest", of_windows(CLIPS, embeddings), ["00", "01"], RECIPE)

    assert normal is not None
    assert normal.distances == ()
    for references, name in zip(normal.references, ("00", "01"), strict=True):
        target = rows_of(embeddings, name, "target")
        unit = target / np.linalg.norm(target, axis=1, keepdims=True)
        assert references.values[: len(target)] == pytest.approx(unit, abs=1e-6)
        assert references.shape[0] == len(target) + RECIPE.nearest.n_centroids


@pytest.mark.parametrize("method", ["log_odds", "reconstruction"])
def test_methods_without_references_learn_nothing(method: str, embeddings: Float64Array) -> None:
    """What the graph alone decides needs no normal sound."""
    assert learn_normal(method, of_windows(CLIPS, embeddings), ["00", "01"], RECIPE) is None


def learn(
    clips: list[Clip],
    embeddings: Float64Array,
    recipe: MahalanobisRecipe,
    sections: list[str] | None = None,
) -> NormalSound:
    """Return what ``mahalanobis`` learns."""
    whole = replace(RECIPE, mahalanobis=recipe)
    windows = of_windows(clips, embeddings)
    normal = learn_normal("mahalanobis", windows, sections or ["00", "01"], whole)
    assert normal is not None
    return normal


def scoring(normal: NormalSound, index: int = 0) -> Scoring:
    """Return the daemon's scoring of a section."""
    method = ScoringDocument("mahalanobis")
    return make_scoring(method, index, normal.references[index], normal.distances)


def of_windows(clips: list[Clip], embeddings: Float64Array) -> list[ClipEmbeddings]:
    """Return clips of three windows each, whose mean is the row of *embeddings*."""
    offsets = np.array([[-1.0], [0.0], [1.0]]) * np.arange(N_DIMS)
    return [
        ClipEmbeddings(clip, row + offsets) for clip, row in zip(clips, embeddings, strict=True)
    ]


def rows_of(embeddings: Float64Array, section: str, domain: str) -> Float64Array:
    """Return the embeddings of a section's clips of one domain."""
    return embeddings[[(clip.section, clip.domain) == (section, domain) for clip in CLIPS]]


def assert_distances(
    normal: NormalSound, index: int, references: list[Float64Array], covariance: Float64Array
) -> None:
    """Compare scores with the smallest of scipy's distances to *references*."""
    inverse = np.linalg.inv(covariance)
    rng = np.random.default_rng(4)
    for scale, _ in product((0.1, 1.0, 10.0), range(10)):
        clip = rng.normal(0.0, scale, N_DIMS)
        expected = min(mahalanobis(clip, one, inverse) for one in references)
        # References and whitening are float32.
        assert scoring(normal, index).clip_value(clip) == pytest.approx(expected, rel=1e-5)
