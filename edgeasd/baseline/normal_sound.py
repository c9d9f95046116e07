"""What normal sounds like: references, and how to measure the distance from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeasd.baseline.covariance import (
    Groups,
    MahalanobisRecipe,
    anomaly_prior,
    clip_means,
    learn_covariance,
    within_source,
)
from edgeasd.common.types import Float32Array


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


def learn_mahalanobis(groups: Groups, recipe: MahalanobisRecipe) -> NormalSound:
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
