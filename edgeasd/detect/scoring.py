"""Turns network output into scores.

A scoring method consists of two functions: one gives a value for each window, the other turns the
mean of these values over the windows of a clip into a score.  All methods have this form, offline
and streamed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeasd.common.types import Float32Array, Float64Array, Score, Window

_LEAST_DISTANCE = 1e-9
"""Distance below which embeddings differ only by rounding."""
_SAME_SHARE = 0.01
"""Share of the typical distance between neighbours below which two references count as the same
sound, added twice."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkOutput:
    """Output of the network for one window.

    Attributes:
        embedding: Shape ``(n_dims,)``, float32.
        logits: Shape ``(n_sections,)``, float32; `None` if the network has no classifier.
    """

    embedding: Float32Array
    logits: Float32Array | None


def embeddings_of(outputs: Sequence[NetworkOutput]) -> Float64Array:
    """Return the embedding of each of *outputs*, shape ``(n_windows, n_dims)``."""
    return np.stack([one.embedding for one in outputs]).astype(np.float64)


class Scoring(Protocol):
    """A scoring method for one section."""

    def window_value(self, output: NetworkOutput) -> Float64Array:
        """Return what is averaged over the windows of a clip, shape ``(n_values,)``."""

    def clip_value(self, mean: Float64Array) -> float:
        """Return the score of a clip from the *mean* of its window values."""


def log_odds(logits: Float32Array, section: int) -> Float64Array:
    """Return the log-odds against *section*, ``log((1 - p) / p)`` with p its softmax output.

    Computed as ``logsumexp(other logits) - logit``: the quotient saturates once p rounds to 1.

    Args:
        logits: Shape ``(..., n_sections)``.
        section: Index of the section that the sound comes from.

    Returns:
        Shape ``(...)``, float64.

    Raises:
        ValueError: If there is one section only: its softmax output is always 1.

    References:
        Cai et al. (DCASE 2021), Eq. 3.
    """
    n_sections = logits.shape[-1]
    if n_sections < 2:  # noqa: PLR2004 - a choice needs two
        raise ValueError(f"n_sections={n_sections} must be at least 2")
    exact = logits.astype(np.float64)
    others = exact[..., np.arange(n_sections) != section]
    peak = others.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(others - peak).sum(axis=-1)) + peak[..., 0]
    difference: Float64Array = log_sum - exact[..., section]
    return difference


class LogOddsScoring:
    """Mean log-odds of the windows against their own section.

    Args:
        section: Index of the section among the logits.

    References:
        Cai et al. (DCASE 2021), Eq. 3 and the sentence after it.
    """

    def __init__(self, section: int) -> None:
        self._section = section

    def window_value(self, output: NetworkOutput) -> Float64Array:
        """Return the log-odds, shape ``(1,)``."""
        if output.logits is None:
            raise ValueError("output.logits must not be None")
        return np.atleast_1d(log_odds(output.logits, self._section))

    def clip_value(self, mean: Float64Array) -> float:
        """Return the mean log-odds, which is the score."""
        return float(mean[0])


class NearestScoring:
    """Cosine distance to the nearest reference, each reference weighted by its local density.

    ``score = min over y of d(x, y) / (mean distance of y to its k nearest other references)`` for
    the mean embedding x of the clip.  With a single reference the score is the distance itself.

    Args:
        references: Embeddings of normal sound of the section, shape ``(n_references, n_dims)``.
        n_neighbours: Number k of nearest references.

    Raises:
        ValueError: If there is no reference, or one is a zero vector.

    References:
        Wilkinghoff et al. (2025), Local density-based anomaly score normalization for domain
        generalization.
    """

    def __init__(self, references: Float32Array | Float64Array, n_neighbours: int = 1) -> None:
        if len(references) == 0:
            raise ValueError("len(references)=0 must be at least 1")
        lengths = np.linalg.norm(np.asarray(references, np.float64), axis=1, keepdims=True)
        if not (lengths > 0).all():
            raise ValueError("references must not hold a zero vector")
        self._directions = references / lengths
        self._density = self._mean_distances(n_neighbours)

    def window_value(self, output: NetworkOutput) -> Float64Array:
        """Return the embedding, shape ``(n_dims,)``."""
        return output.embedding.astype(np.float64)

    def clip_value(self, mean: Float64Array) -> float:
        """Return the distance of the *mean* embedding to its nearest reference."""
        length = max(float(np.sqrt(np.square(mean).sum())), _LEAST_DISTANCE)
        distances = 1.0 - _products(self._directions, mean) / length
        return float((distances / self._density).min())

    def _mean_distances(self, n_neighbours: int) -> Float64Array:
        """Return each reference's mean distance to its nearest others, ``(n_references,)``."""
        n_others = len(self._directions) - 1
        if n_others == 0:
            return np.ones(1)
        # In place, because 4096 references need 128 MB.
        distances = self._directions @ self._directions.T
        np.subtract(1.0, distances, out=distances)
        np.fill_diagonal(distances, np.inf)
        typical = np.median(distances.min(axis=1))
        # A reference that was added twice must not be its own neighbour: the score would explode.
        distances[distances <= max(_SAME_SHARE * typical, _LEAST_DISTANCE)] = np.inf
        density = np.ones(len(distances))
        n_nearest = min(n_neighbours, n_others)
        for index, row in enumerate(distances):
            # BLAS may select the nearest, but not measure them; see `_products`.
            nearest = np.sort(np.argpartition(row, n_nearest - 1)[:n_nearest])
            nearest = nearest[np.isfinite(row[nearest])]
            if len(nearest):
                own = self._directions[index]
                density[index] = (1.0 - _products(self._directions[nearest], own)).mean()
        return np.where(density > 0.0, density, 1.0)


class MahalanobisScoring:
    """Distance to the nearest reference, in units of the variation of normal sound.

    ``d = min over y of ||W (x - y)||``, where x is the mean embedding of the clip.  This is the
    Mahalanobis distance if ``W' W`` is the inverse of a covariance.  The score is the weighted
    geometric mean of one or more such distances.

    Args:
        references: Embeddings of normal sound of the section, shape ``(n_references, n_dims)``.
        distances: Weight and matrix W of each distance; W has shape ``(n_values, n_dims)``.

    Raises:
        ValueError: If there is no reference or no distance.
    """

    def __init__(
        self,
        references: Float32Array | Float64Array,
        distances: Sequence[tuple[float, Float32Array | Float64Array]],
    ) -> None:
        if len(references) == 0:
            raise ValueError("len(references)=0 must be at least 1")
        if not distances:
            raise ValueError("len(distances)=0 must be at least 1")
        total = sum(weight for weight, _ in distances)
        # Not copied where they are float64: all sections and machines of a model share them.
        whitenings = [(weight / total, np.asarray(each, np.float64)) for weight, each in distances]
        exact = references.astype(np.float64)
        self._distances = [
            (weight, each, np.stack([_products(each, one) for one in exact]))
            for weight, each in whitenings
        ]

    def window_value(self, output: NetworkOutput) -> Float64Array:
        """Return the embedding, shape ``(n_dims,)``."""
        return output.embedding.astype(np.float64)

    def clip_value(self, mean: Float64Array) -> float:
        """Return the distance of the *mean* embedding to its nearest reference."""
        score = 1.0
        for weight, whitening, references in self._distances:
            differences = references - _products(whitening, mean)
            score *= float(np.square(differences).sum(axis=1).min()) ** (weight / 2.0)
        return score


class ReconstructionScoring:
    """Mean reconstruction error of the windows, which an autoencoder returns as its embedding."""

    def window_value(self, output: NetworkOutput) -> Float64Array:
        """Return the reconstruction error, shape ``(1,)``."""
        return output.embedding.astype(np.float64)

    def clip_value(self, mean: Float64Array) -> float:
        """Return the mean error, which is the score."""
        return float(mean[0])


def _products(rows: Float64Array, vector: Float64Array) -> Float64Array:
    """Return the scalar product of each of *rows* with *vector*, shape ``(n_rows,)``.

    Computed without BLAS, whose rounding depends on its release, the processor and the number of
    threads: the same sound must have the same score after an upgrade.
    """
    products: Float64Array = np.einsum("ij,j->i", rows, vector)
    return products


def clip_score(scoring: Scoring, outputs: Sequence[NetworkOutput]) -> float:
    """Return the score of a clip from the network's output for each of its windows.

    Raises:
        ValueError: If there is no window.
    """
    if not outputs:
        raise ValueError("len(outputs)=0 must be at least 1")
    # Summed in order of time, as in `ClipScorer`.
    return scoring.clip_value(np.stack([scoring.window_value(o) for o in outputs]).mean(axis=0))


class ClipScorer:
    """Streaming twin of `clip_score`: gives a score over the latest windows with each new window.

    Args:
        scoring: Scoring method for the section of the machine.
        n_windows: Number of windows that a score rests on.
    """

    def __init__(self, scoring: Scoring, n_windows: int) -> None:
        self._scoring = scoring
        self._n_windows = n_windows
        self._values = np.empty((0, 0))
        self._starts: deque[int] = deque(maxlen=n_windows)

    def process(self, window: Window, output: NetworkOutput) -> Score | None:
        """Return the score that ends with *window*; `None` while there are too few windows."""
        value = self._scoring.window_value(output)
        if len(self._values) == 0:
            self._values = np.zeros((self._n_windows, len(value)))
        # Shifted, and summed anew in order of time: a running sum would drift, and the order of a
        # ring would depend on when the stream began.
        self._values[:-1] = self._values[1:]
        self._values[-1] = value
        self._starts.append(window.first_sample)
        if len(self._starts) < self._n_windows:
            return None
        first_sample = self._starts[0]
        n_samples = window.first_sample + window.n_samples - first_sample
        score = self._scoring.clip_value(self._values.mean(axis=0))
        return Score(score, first_sample, n_samples)

    def reset(self) -> None:
        """Forget the stream; the next window starts a new one."""
        self._starts.clear()
