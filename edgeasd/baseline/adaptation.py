"""Adding new normal sound to a model without training it again.

A new product, room or place of the microphone changes normal sound.  The mean of the new sound
becomes a reference.  For the Mahalanobis distance, the directions in which the new sound differs
from the old, and those in which it varies, also count less from then on: what tells two rooms apart
says little about the machine.  On the fan benchmark nearly all of the gain comes from the
directions, next to nothing from the reference alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeasd.baseline.covariance import TAPER, clip_means, new_domain_scatter, sections_prior
from edgeasd.common.types import Float64Array
from edgeasd.detect.model.document import DistanceDocument, ModelDocument
from edgeasd.detect.model.matrix import Matrix

_SYMMETRIC = 0.01
"""Largest difference between mirrored elements of a covariance matrix, relative to its largest
element, up to which it counts as symmetric."""


def adapted_references(document: ModelDocument, clips: Sequence[Float64Array]) -> Matrix:
    """Return the references that *clips* of new normal sound add.

    Args:
        document: Document of the model.
        clips: Embeddings of the windows of each clip, shape ``(n_windows, n_dims)``.
    """
    means = clip_means(clips)
    if document.scoring.method == "nearest":
        # Every clip, as in training, where a target domain has few of them and each counts.
        return Matrix(means / np.linalg.norm(means, axis=1, keepdims=True))
    return Matrix(means.mean(axis=0, keepdims=True))


def adapted_distances(
    document: ModelDocument, section: int, clips: Sequence[Float64Array]
) -> tuple[DistanceDocument, ...]:
    """Return distances in which the directions of *clips* count less; none for ``nearest``.

    Args:
        document: Document of the model.
        section: Index of the section.
        clips: Embeddings of the windows of each clip of new normal sound.
    """
    if document.scoring.method == "nearest":
        return ()
    references = document.sections[section].references
    assert references is not None
    prior = _prior(document)
    scatter = new_domain_scatter(references.values[0], clips, 0.0 if prior is None else TAPER)
    first, *others = document.distances
    whitening = _adapted(first.whitening.values, scatter, prior)
    return (DistanceDocument(first.weight, Matrix(whitening)), *others)


def resembles(
    document: ModelDocument,
    section: int,
    clips: Sequence[Float64Array],
    anomalies: Sequence[Float64Array],
) -> int | None:
    """Return the index of the anomaly that *clips* are nearer to than to normal sound, if any.

    Args:
        document: Document of the model.
        section: Index of the section.
        clips: Embeddings of the windows of each clip of new sound.
        anomalies: Embeddings of the windows of each clip that was reported as an alarm.
    """
    references = document.sections[section].references
    if not anomalies or references is None:
        return None
    new = clip_means(clips).mean(axis=0)
    distance = document.distances[0] if document.distances else None
    whitening = np.eye(len(new)) if distance is None else distance.whitening.values

    def distances(rows: Float64Array) -> Float64Array:
        return np.asarray(np.linalg.norm((rows - new) @ whitening.T, axis=1))

    to_anomalies = distances(clip_means(anomalies))
    nearest = int(to_anomalies.argmin())
    normal = distances(references.values).min()
    return nearest if to_anomalies[nearest] < normal else None


def _adapted(
    whitening: Float64Array, scatter: Float64Array, prior: Float64Array | None
) -> Float64Array:
    """Return *whitening* with *scatter* added to the covariance that it was made from."""
    if prior is not None:
        root = np.linalg.cholesky(prior).T
        # W = A^1/2 C^-1 gives C = W^-1 A^1/2, which is symmetric if W was made in this way.
        covariance = np.linalg.solve(whitening, root)
        if np.abs(covariance - covariance.T).max() <= _SYMMETRIC * np.abs(covariance).max():
            covariance = (covariance + covariance.T) / 2.0
            return np.asarray(root @ np.linalg.inv(covariance + scatter))
    # W' W = C^-1: W C W' is the unit matrix, and W (C + S) W' = I + W S W'.
    added = np.eye(len(whitening)) + whitening @ scatter @ whitening.T
    return np.asarray(np.linalg.solve(np.linalg.cholesky(added), whitening))


def _prior(document: ModelDocument) -> Float64Array | None:
    """Return the `sections_prior` of the model; `None` if its embeddings are not by mel bin."""
    references = [one.references for one in document.sections]
    if any(one is None or one.shape[1] != document.features.n_mels for one in references):
        return None
    # The first reference of a section is the mean of its source domain.
    means = np.stack([one.values[0] for one in references if one is not None])
    # In the precision of the file, so that adapting again gives the very same distances.
    return sections_prior(means.astype(np.float32))
