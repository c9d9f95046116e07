"""Tests of the covariances against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from edgeasd.baseline.covariance import (
    FEW_CLIPS,
    MahalanobisRecipe,
    anomaly_prior,
    learn_covariance,
    within_source,
)
from edgeasd.common.types import Float64Array

N_DIMS = 6
LEAST = 1e-6 * np.eye(N_DIMS)
PLAIN = MahalanobisRecipe(domain_scatter=False)

Group = dict[str, list[Float64Array]]


def make_group(seed: int, n_windows: int = 10, **n_clips: int) -> Group:
    """Return clips of correlated windows, each domain at its own place."""
    rng = np.random.default_rng(seed)
    turn = rng.normal(size=(N_DIMS, N_DIMS))
    return {
        domain: [
            place + turn @ rng.normal(size=N_DIMS) + rng.normal(size=(n_windows, N_DIMS))
            for _ in range(count)
        ]
        for domain, count in n_clips.items()
        for place in [rng.normal(0.0, 3.0, N_DIMS)]
    }


@pytest.fixture
def groups() -> list[Group]:
    """Two sections of both domains, few clips in the target domain only."""
    return [make_group(1, source=20, target=3), make_group(2, source=18, target=5)]


def means_of(clips: list[Float64Array]) -> Float64Array:
    """Return the mean embedding of each clip."""
    return np.array([np.mean(windows, axis=0) for windows in clips])


def shift_of(groups: list[Group]) -> Float64Array:
    """Return the mean outer product of the difference between the domains' means."""
    shift = np.zeros((N_DIMS, N_DIMS))
    for group in groups:
        difference = means_of(group["target"]).mean(axis=0) - means_of(group["source"]).mean(axis=0)
        shift += difference[:, None] * difference / len(groups)
    return shift


def pieces_of(clips: list[Float64Array], n_windows: int) -> list[Float64Array]:
    """Return the difference of each whole piece from the mean of its clip's pieces."""
    residuals = []
    for windows in clips:
        starts = range(0, len(windows) - n_windows + 1, n_windows)
        pieces = [windows[start : start + n_windows].mean(axis=0) for start in starts]
        residuals += [piece - np.mean(pieces, axis=0) for piece in pieces]
    return residuals


def scatter_of(residuals: list[Float64Array]) -> Float64Array:
    """Return the mean outer product of *residuals*."""
    scatter: Float64Array = np.mean([np.outer(one, one) for one in residuals], axis=0)
    return scatter


def test_within_source_is_ledoit_wolf_of_clips_about_their_sections_mean(
    groups: list[Group],
) -> None:
    """Windows count by the mean of their clip; the target domain does not count."""
    rows = [means_of(group["source"]) for group in groups]
    residuals = np.concatenate([one - one.mean(axis=0) for one in rows])

    expected = LedoitWolf(assume_centered=True).fit(residuals).covariance_
    assert within_source(groups, "full") == pytest.approx(expected + LEAST)
    variances = np.square(residuals).mean(axis=0)
    assert within_source(groups, "diagonal") == pytest.approx(np.diag(variances) + LEAST)
    assert learn_covariance(groups, PLAIN) == pytest.approx(expected + LEAST)


def test_domain_scatter_adds_shift_and_scatter_of_the_target_domain(groups: list[Group]) -> None:
    """Added are how the domains differ, and how target clips lie about their own mean."""
    within = np.zeros((N_DIMS, N_DIMS))
    for group in groups:
        rows = means_of(group["target"])
        within += np.cov(rows, rowvar=False, bias=True) / len(groups)

    added = learn_covariance(groups, MahalanobisRecipe()) - within_source(groups, "full")

    assert added == pytest.approx(shift_of(groups) + within)


@pytest.mark.parametrize("domain", ["source", "target"])
def test_domain_scatter_of_one_domain_adds_nothing(domain: str) -> None:
    """Sections of one domain say nothing of the difference between domains."""
    groups = [make_group(1, **{domain: 20}), make_group(2, **{domain: 20})]

    added = learn_covariance(groups, MahalanobisRecipe()) - within_source(groups, "full")

    assert (added == 0.0).all()


def test_domain_scatter_counts_sections_of_both_domains_only(groups: list[Group]) -> None:
    """A section of one domain does not thin out what the others tell."""
    lone = make_group(3, source=20)

    added = learn_covariance([*groups, lone], MahalanobisRecipe())
    expected = learn_covariance(groups, MahalanobisRecipe()) - within_source(groups, "full")

    assert added - within_source([*groups, lone], "full") == pytest.approx(expected)


def test_scatter_windows_adds_pieces_of_the_domains_with_few_clips(groups: list[Group]) -> None:
    """Pieces of four windows of ten are two a clip; clips of the source domain are enough."""
    clips = [*groups[0]["target"], *groups[1]["target"]]

    added = learn_covariance(groups, replace(PLAIN, scatter_windows=4))

    expected = scatter_of(pieces_of(clips, 4))
    assert added - within_source(groups, "full") == pytest.approx(expected)


@pytest.mark.parametrize(("n_clips", "counts"), [(FEW_CLIPS, False), (FEW_CLIPS - 1, True)])
def test_scatter_windows_are_for_fewer_than_16_clips(n_clips: int, *, counts: bool) -> None:
    """Sixteen clips show by themselves how sound varies from clip to clip."""
    groups = [make_group(1, source=n_clips)]

    added = learn_covariance(groups, replace(PLAIN, scatter_windows=4))

    expected = scatter_of(pieces_of(groups[0]["source"], 4)) if counts else 0.0 * LEAST
    assert FEW_CLIPS == 16
    assert added - within_source(groups, "full") == pytest.approx(expected)


def test_scatter_windows_of_clips_of_one_piece_add_nothing() -> None:
    """A clip shorter than two pieces does not show how it varies; that is no fault."""
    groups = [make_group(1, n_windows=3, source=5)]

    added = learn_covariance(groups, replace(PLAIN, scatter_windows=4))

    assert added == pytest.approx(within_source(groups, "full"))


def test_taper_adds_shift_and_pieces_within_neighbouring_bins(groups: list[Group]) -> None:
    """The same scatter counts once more, times 0.2 exp(-distance / 2 bins)."""
    clips = [*groups[0]["target"], *groups[1]["target"]]
    recipe = replace(PLAIN, scatter_windows=4)

    added = learn_covariance(groups, replace(recipe, taper=0.2)) - learn_covariance(groups, recipe)

    scatter = shift_of(groups) + scatter_of(pieces_of(clips, 4))
    for row in range(N_DIMS):
        for column in range(N_DIMS):
            near = 0.2 * np.exp(-abs(row - column) / 2.0)
            assert added[row, column] == pytest.approx(near * scatter[row, column])


def test_anomaly_prior_varies_most_where_sections_differ(groups: list[Group]) -> None:
    """It is the product of two bins' scales and the mean of two kernels of 2 and 16 bins."""
    means = [means_of(group["source"]).mean(axis=0) for group in groups]
    spread = np.std(means, axis=0) + 1e-6
    scale = np.sqrt(spread / spread.mean())

    prior = anomaly_prior(groups)

    for row in range(N_DIMS):
        for column in range(N_DIMS):
            distance = abs(row - column)
            near = (np.exp(-distance / 2.0) + np.exp(-distance / 16.0)) / 2.0
            expected = scale[row] * scale[column] * near + LEAST[row, column]
            assert prior[row, column] == pytest.approx(expected)


@pytest.mark.parametrize("n_sections", [1, 2, 3])
def test_anomaly_prior_is_positive_definite_of_mean_variance_1(n_sections: int) -> None:
    """Every direction may hold an anomaly; the scale of scores does not depend on it."""
    groups = [make_group(seed, source=4) for seed in range(n_sections)]

    prior = anomaly_prior(groups)

    assert prior == pytest.approx(prior.T)
    assert np.linalg.eigvalsh(prior).min() > 0.0
    assert np.diag(prior).mean() == pytest.approx(1.0, abs=1e-5)


def test_anomaly_prior_of_one_section_has_all_bins_alike() -> None:
    """One section alone does not show in which bins the machine is heard."""
    prior = anomaly_prior([make_group(1, source=4)])

    assert np.diag(prior) == pytest.approx(np.ones(N_DIMS), abs=1e-5)
