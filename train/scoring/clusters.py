"""Learning what is normal from the embeddings of training clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from edgeasd.baseline.covariance import NormalSound, clip_means, learn_mahalanobis
from edgeasd.common.types import Float64Array
from edgeasd.detect.model.matrix import Matrix
from train.data.clips import Clip
from train.recipe.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class ClipEmbeddings:
    """The embeddings of the windows of a training clip, shape ``(n_windows, n_dims)``."""

    clip: Clip
    windows: Float64Array


def learn_normal(
    method: str, clips: Sequence[ClipEmbeddings], sections: Sequence[str], recipe: Recipe
) -> NormalSound | None:
    """Return what a scoring method needs to know of normal sound; `None` if it needs nothing.

    Args:
        method: ``nearest``, ``mahalanobis``, or a method without references.
        clips: The training clips without those held out.
        sections: Names of the sections.
        recipe: How to learn.
    """
    if method == "nearest":
        return NormalSound(tuple(_directions(_by_domain(clips, name), recipe) for name in sections))
    if method == "mahalanobis":
        groups = [_by_domain(clips, name) for name in sections]
        return learn_mahalanobis(groups, recipe.mahalanobis)
    return None


def _directions(domains: dict[str, list[Float64Array]], recipe: Recipe) -> Matrix:
    """Return the references of a section for ``nearest``.

    They are the embeddings of all target clips, as there are few and each counts, and k-means
    centroids of the source clips, so that these do not outweigh them.  Embeddings are scaled to
    length 1 first.
    """
    unit = {name: clip_means(clips) for name, clips in domains.items()}
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in unit.items()}
    references = [unit["target"]] if "target" in unit else []
    if "source" in unit:
        n_clusters = min(recipe.nearest.n_centroids, len(unit["source"]))
        clusters = KMeans(n_clusters, n_init=10, random_state=recipe.seed).fit(unit["source"])
        references.append(clusters.cluster_centers_)
    return Matrix(np.concatenate(references))


def _by_domain(clips: Sequence[ClipEmbeddings], section: str) -> dict[str, list[Float64Array]]:
    """Return the embeddings of a section's clips by domain, the source domain first."""
    chosen = [one for one in clips if one.clip.section == section]
    domains = sorted({one.clip.domain for one in chosen})
    return {name: [one.windows for one in chosen if one.clip.domain == name] for name in domains}
