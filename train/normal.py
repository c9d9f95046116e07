"""What normal sounds like: references and covariance of the embeddings of training clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.cluster import KMeans

from edgeasd.stream import Float32Array, Float64Array
from train.clips import Clip
from train.covariance import anomaly_prior, clip_means, learn_covariance, within_source
from train.recipe import MahalanobisRecipe, Recipe


@dataclass(frozen=True, slots=True, eq=False)
class ClipEmbeddings:
    """The embeddings of the windows of a training clip, shape ``(n_windows, n_dims)``."""

    clip: Clip
    windows: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class NormalSound:
    """What the distances of a model are measured from, and with.

    Attributes:
        references: Embeddings for each section, shape ``(n_references, n_dims)``.
        distances: Weight and whitening matrix of each, see
            `edgeasd.detect.scoring.MahalanobisScoring`; none for ``nearest``.
    """

    references: list[Float32Array]
    distances: list[tuple[float, Float32Array]] = field(default_factory=list)


def learn_normal(
    method: str, clips: Sequence[ClipEmbeddings], sections: Sequence[str], recipe: Recipe
) -> NormalSound | None:
    """Return what a scoring method needs to know of normal sound; `None` if nothing.

    Args:
        method: ``nearest``, ``mahalanobis``, or one without references.
        clips: The training clips but those held out.
        sections: Names.
        recipe: Says how.
    """
    if method == "nearest":
        return NormalSound([_directions(_by_domain(clips, name), recipe) for name in sections])
    if method == "mahalanobis":
        groups = [_by_domain(clips, name) for name in sections]
        return _learn_mahalanobis(groups, recipe.mahalanobis)
    return None


def _directions(domains: dict[str, list[Float64Array]], recipe: Recipe) -> Float32Array:
    """Return the references of a section for the distance of directions.

    Of the target domain every clip's embedding, as there are few and each counts; of the source
    domain k-means centroids, so that many clips do not outweigh them.  Embeddings get length 1
    first.
    """
    unit = {name: clip_means(clips) for name, clips in domains.items()}
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in unit.items()}
    references = [unit["target"]] if "target" in unit else []
    if "source" in unit:
        n_clusters = min(recipe.nearest.n_centroids, len(unit["source"]))
        clusters = KMeans(n_clusters, n_init=10, random_state=recipe.seed).fit(unit["source"])
        references.append(clusters.cluster_centers_)
    return np.concatenate(references).astype(np.float32)


def _learn_mahalanobis(
    groups: Sequence[dict[str, list[Float64Array]]], recipe: MahalanobisRecipe
) -> NormalSound:
    """Return references, and how to measure the distance from them.

    Without a prior ``W = C^-1/2``.  With it ``W = A^1/2 C^-1``, the score test of embeddings of
    covariance ``C + e A`` against C for small e (locally most powerful; Rao, 1948): directions in
    which normal sound varies count little, those that an anomaly may take count more.
    """
    covariances = [(1.0, learn_covariance(groups, recipe))]
    if recipe.source_weight:
        covariances.append((recipe.source_weight, within_source(groups, recipe.covariance)))
    prior = anomaly_prior(groups) if recipe.anomaly_prior else None
    distances = []
    for weight, covariance in covariances:
        if prior is None:
            whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        else:
            whitening = np.linalg.cholesky(prior).T @ np.linalg.inv(covariance)
        distances.append((weight, whitening.astype(np.float32)))
    references = []
    for domains in groups:
        rows = [clip_means(clips) for clips in domains.values()]
        if recipe.references == "means":
            rows = [each.mean(axis=0, keepdims=True) for each in rows]
        references.append(np.concatenate(rows).astype(np.float32))
    return NormalSound(references, distances)


def _by_domain(clips: Sequence[ClipEmbeddings], section: str) -> dict[str, list[Float64Array]]:
    """Return the embeddings of a section's clips by domain, the source domain first."""
    chosen = [one for one in clips if one.clip.section == section]
    domains = sorted({one.clip.domain for one in chosen})
    return {name: [one.windows for one in chosen if one.clip.domain == name] for name in domains}
