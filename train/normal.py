"""What normal sounds like: references and covariance of the embeddings of training clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf

from edgeasd.stream import Float32Array, Float64Array
from train.clips import Clip
from train.recipe import MahalanobisRecipe, Recipe

_LEAST_VARIANCE = 1e-6
"""Of a standardised value: what is constant in training must not decide alone later."""


@dataclass(frozen=True, slots=True, eq=False)
class NormalSound:
    """What the distances of a model are measured from, and with.

    Attributes:
        references: Embeddings for each section, shape ``(n_references, n_dims)``.
        whitening: Shape ``(n_dims, n_dims)``; `None` unless the method is ``mahalanobis``.
    """

    references: list[Float32Array]
    whitening: Float32Array | None = None


def learn_normal(
    method: str,
    clips: Sequence[Clip],
    embeddings: Float64Array,
    sections: Sequence[str],
    recipe: Recipe,
) -> NormalSound | None:
    """Return what a scoring method needs to know of normal sound; `None` if nothing.

    Args:
        method: ``nearest``, ``mahalanobis``, or one without references.
        clips: The training clips but those held out.
        embeddings: The mean embedding of each, shape ``(n_clips, n_dims)``.
        sections: Names.
        recipe: Says how.
    """
    if method == "nearest":
        chosen = [_of_section(clips, name) for name in sections]
        references = [_directions(clips, embeddings, rows, recipe) for rows in chosen]
        return NormalSound(references)
    if method == "mahalanobis":
        return _learn_mahalanobis(clips, embeddings, sections, recipe.mahalanobis)
    return None


def _directions(
    clips: Sequence[Clip], embeddings: Float64Array, rows: Sequence[int], recipe: Recipe
) -> Float32Array:
    """Return the references of a section for the distance of directions.

    Of the target domain every clip's embedding, as there are few and each counts; of the source
    domain k-means centroids, so that many clips do not outweigh them.  Embeddings get length 1
    first.
    """
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    references: Float64Array = unit[[row for row in rows if clips[row].domain == "target"]]
    source = unit[[row for row in rows if clips[row].domain == "source"]]
    if len(source):
        n_clusters = min(recipe.nearest.n_centroids, len(source))
        clusters = KMeans(n_clusters, n_init=10, random_state=recipe.seed).fit(source)
        references = np.concatenate((references, clusters.cluster_centers_))
    return references.astype(np.float32)


def _learn_mahalanobis(
    clips: Sequence[Clip],
    embeddings: Float64Array,
    sections: Sequence[str],
    recipe: MahalanobisRecipe,
) -> NormalSound:
    """Return references, and the whitening of a covariance pooled over sections."""
    groups = [
        {domain: embeddings[rows] for domain, rows in _by_domain(clips, name).items()}
        for name in sections
    ]
    covariance = _within(groups, recipe.covariance)
    if recipe.domain_scatter:
        covariance = covariance + domain_scatter(groups)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    references = [
        np.concatenate(
            [
                rows.mean(axis=0, keepdims=True) if recipe.references == "means" else rows
                for rows in domains.values()
            ]
        ).astype(np.float32)
        for domains in groups
    ]
    return NormalSound(references, whitening.astype(np.float32))


def domain_scatter(groups: Sequence[dict[str, Float64Array]]) -> Float64Array:
    """Return the scatter between the domains of a section plus that within the target domain.

    The directions in which two rooms differ, and in which few clips of a new room differ from
    each other, say little about the machine.

    Args:
        groups: Embeddings of each section by domain, shape ``(n_clips, n_dims)`` each.

    Returns:
        Shape ``(n_dims, n_dims)``: the mean over sections of the outer product of the difference
        of the domains' means, plus the mean over sections of the covariance of target clips; 0
        without sections that have both domains.
    """
    both = [domains for domains in groups if len(domains) == 2]
    n_dims = next(iter(groups[0].values())).shape[1]
    scatter = np.zeros((n_dims, n_dims))
    for domains in both:
        shift = domains["target"].mean(axis=0) - domains["source"].mean(axis=0)
        spread = domains["target"] - domains["target"].mean(axis=0)
        scatter += np.outer(shift, shift) + spread.T @ spread / len(spread)
    return scatter / max(len(both), 1)


def _within(groups: Sequence[dict[str, Float64Array]], form: str) -> Float64Array:
    """Return the covariance of clips within their section's first domain, pooled."""
    rows = [domains.get("source", next(iter(domains.values()))) for domains in groups]
    residuals = np.concatenate([one - one.mean(axis=0) for one in rows])
    if form == "full":
        covariance: Float64Array = ledoit_wolf(residuals, assume_centered=True)[0]
    else:
        covariance = np.diag(residuals.var(axis=0))
    return covariance + _LEAST_VARIANCE * np.eye(len(covariance))


def _of_section(clips: Sequence[Clip], name: str) -> list[int]:
    return [row for row, clip in enumerate(clips) if clip.section == name]


def _by_domain(clips: Sequence[Clip], section: str) -> dict[str, list[int]]:
    """Return the rows of a section's clips by domain, the source domain first."""
    rows = _of_section(clips, section)
    domains = sorted({clips[row].domain for row in rows})
    return {domain: [row for row in rows if clips[row].domain == domain] for domain in domains}
