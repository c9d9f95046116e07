"""The Mahalanobis distance: how normal sound varies, and how a distance weighs that.

Functions that take *groups* are given, for each section, its clips by domain, the source domain
first; each clip is the embeddings of its windows, shape ``(n_windows, n_dims)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from edgeasd.common.documents.reading import at_least, one_of
from edgeasd.common.types import Float64Array
from edgeasd.detect.model.document import DistanceDocument
from edgeasd.detect.model.matrix import Matrix

Groups = Sequence[Mapping[str, Sequence[Float64Array]]]

_BOTH = 2
"""Number of domains in a section that has both, source and target."""
FEW_CLIPS = 16
"""A domain with fewer clips in a section does not show how its sound varies from clip to clip."""

PIECE_WINDOWS = 8
"""Windows in a piece of a clip; 2 s with the windows of ``edgeasd learn``."""
TAPER = 0.2
"""Weight of the scatter between new and old sound within neighbouring mel bins."""

_LEAST_VARIANCE = 1e-6
"""Variance added to every value: one that was constant in training must not decide alone later."""
_TAPER_BINS = 2.0
"""Distance in mel bins over which noise varies together, whatever its spectrum."""
_ANOMALY_BINS = (2.0, 16.0)
"""Widths of an anomaly in mel bins: that of a harmonic, and that of a band."""


@dataclass(frozen=True, slots=True)
class MahalanobisRecipe:
    """How the distance to the nearest reference is learned from how normal sound varies."""

    references: Annotated[str, one_of("means", "clips")] = "means"
    """References of a section: the mean of each domain, or every training clip."""
    covariance: Annotated[str, one_of("full", "diagonal")] = "full"
    """Covariance of clips within the source domain of their section: in ``full``, shrunk as Ledoit
    and Wolf do, or ``diagonal``, the variances alone."""
    domain_scatter: bool = True
    """Whether the scatter between the domains, and that within the target domain, is added: it is
    what tells two rooms apart."""
    scatter_windows: Annotated[int, at_least(0)] = 0
    """Windows in a piece of a clip.  Where a domain has few clips in a section, the scatter of the
    pieces of its clips is added; 0 adds none."""
    taper: Annotated[float, at_least(0)] = 0.0
    """Weight with which that scatter, and that between the domains, is added once more within
    neighbouring mel bins, for noise like that in the few clips but of another spectrum; 0 adds
    none."""
    anomaly_prior: bool = False
    """Whether directions count by what an anomaly may look like: smooth over mel bins, and in the
    bins where the sections differ."""
    source_weight: Annotated[float, at_least(0)] = 0.0
    """Weight of a second distance, by the covariance within the source domain alone; 0 leaves only
    the distance by all of the above, whose weight is 1."""


@dataclass(frozen=True, slots=True, eq=False)
class NormalSound:
    """What a model knows of normal sound.

    Attributes:
        references: Embeddings of normal sound, for each section.
        distances: How the distance to the references is measured; none for ``nearest``.
    """

    references: tuple[Matrix, ...]
    distances: tuple[DistanceDocument, ...] = ()


def learn_mahalanobis(groups: Groups, recipe: MahalanobisRecipe) -> NormalSound:
    """Return references for each section, and how the distance to them is measured.

    With the covariance C of normal sound, embeddings are multiplied by ``W = C^-1/2``.  With the
    covariance A that anomalies are supposed to have, it is ``W = A^1/2 C^-1``: directions in which
    normal sound varies count little, those that an anomaly may take count more.

    References:
        Rao (1948), Large sample tests of statistical hypotheses: the score test of ``C + e A``
        against C, locally most powerful for small e.
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
        distances.append(DistanceDocument(weight, Matrix(whitening)))
    references = []
    for domains in groups:
        rows = [clip_means(clips) for clips in domains.values()]
        if recipe.references == "means":
            rows = [each.mean(axis=0, keepdims=True) for each in rows]
        references.append(Matrix(np.concatenate(rows)))
    return NormalSound(tuple(references), tuple(distances))


def learn_covariance(groups: Groups, recipe: MahalanobisRecipe) -> Float64Array:
    """Return the covariance of a clip's embedding in normal sound, shape ``(n_dims, n_dims)``.

    It is the sum of what *recipe* asks for: the covariance within the source domain, the scatter
    between the domains and within the target domain, and that of the pieces of few clips.
    """
    covariance = within_source(groups, recipe.covariance)
    shift = _domain_shift(groups)
    if recipe.domain_scatter:
        covariance = covariance + shift + _within_target(groups)
    if recipe.scatter_windows:
        pieces = _pieces(groups, recipe.scatter_windows)
        near = _kernel(len(covariance), _TAPER_BINS)
        covariance = covariance + pieces + recipe.taper * (shift + pieces) * near
    return covariance


def within_source(groups: Groups, form: str) -> Float64Array:
    """Return the pooled covariance of source clips about the mean of their section.

    Args:
        groups: The clips by section and domain.
        form: ``full``, shrunk as Ledoit and Wolf (2004) do, or ``diagonal``.
    """
    residuals = np.concatenate([_residuals(next(iter(domains.values()))) for domains in groups])
    if form == "full":
        covariance: Float64Array = ledoit_wolf(residuals)
    else:
        covariance = np.diag(residuals.var(axis=0))
    return covariance + _LEAST_VARIANCE * np.eye(len(covariance))


def anomaly_prior(groups: Groups) -> Float64Array:
    """Return the covariance that anomalies are supposed to have, up to a factor.

    Neighbouring mel bins vary together, over the width of a harmonic and of a band; bins in which
    the sections differ are those in which the machine is heard, so they vary more.  With one
    section all bins are alike.

    Args:
        groups: The clips by section and domain; an embedding is a value for each mel bin.

    Returns:
        Shape ``(n_mels, n_mels)``; the mean variance is 1.
    """
    means = [clip_means(next(iter(domains.values()))).mean(axis=0) for domains in groups]
    return sections_prior(np.stack(means))


def sections_prior(means: Float64Array) -> Float64Array:
    """Return `anomaly_prior` from the *means* of the sections, shape ``(n_sections, n_mels)``."""
    n_mels = means.shape[1]
    # The square root of the spread lies between treating all bins alike and relying on those
    # alone in which the sections differ.
    variance = means.std(axis=0) + _LEAST_VARIANCE if len(means) > 1 else np.ones(n_mels)
    scale = np.sqrt(variance / variance.mean())
    near = np.mean([_kernel(n_mels, n_bins) for n_bins in _ANOMALY_BINS], axis=0)
    prior: Float64Array = np.outer(scale, scale) * near
    return prior + _LEAST_VARIANCE * np.eye(n_mels)


def new_domain_scatter(
    mean: Float64Array, clips: Sequence[Float64Array], taper: float
) -> Float64Array:
    """Return what a domain that was not there in training adds to the covariance of its section.

    It is what training with both domains adds by the trainer's recipe ``edge``: the shift between
    the domains, the scatter of the clips and of their pieces, and shift and pieces once more within
    neighbouring mel bins.

    Args:
        mean: Mean embedding of the section's source domain, shape ``(n_dims,)``.
        clips: Clips of the new domain.
        taper: Weight of what is added within neighbouring mel bins; 0 if an embedding is not a
            value for each mel bin.
    """
    groups = [{"source": [mean[None]], "target": list(clips)}]
    shift = _domain_shift(groups)
    pieces = _pieces([{"target": list(clips)}], PIECE_WINDOWS)
    near = _kernel(len(shift), _TAPER_BINS)
    return shift + _within_target(groups) + pieces + taper * (shift + pieces) * near


def _domain_shift(groups: Groups) -> Float64Array:
    """Return the mean outer product of the difference between domains; 0 if there is one domain.

    The directions in which two rooms differ say little about the machine.
    """
    means = [[clip_means(clips).mean(axis=0) for clips in domains.values()] for domains in groups]
    n_dims = len(means[0][0])
    shifts = [target - source for source, target in (each for each in means if len(each) == _BOTH)]
    return sum((np.outer(one, one) for one in shifts), np.zeros((n_dims, n_dims))) / max(
        len(shifts), 1
    )


def _within_target(groups: Groups) -> Float64Array:
    """Return the mean covariance of the target clips of a section; 0 if there are none."""
    n_dims = next(iter(groups[0].values()))[0].shape[1]
    spreads = [_residuals(domains["target"]) for domains in groups if len(domains) == _BOTH]
    total = sum((one.T @ one / len(one) for one in spreads), np.zeros((n_dims, n_dims)))
    return total / max(len(spreads), 1)


def _pieces(groups: Groups, n_windows: int) -> Float64Array:
    """Return the scatter of pieces of clips about their clip, in domains with few clips.

    Args:
        groups: The clips by section and domain.
        n_windows: Windows in a piece.  What does not fill a piece is left out, unless it is the
            whole clip.
    """
    n_dims = next(iter(groups[0].values()))[0].shape[1]
    few = [
        windows
        for domains in groups
        for clips in domains.values()
        if len(clips) < FEW_CLIPS
        for windows in clips
    ]
    residuals = [np.zeros((0, n_dims))]
    for windows in few:
        n_pieces = max(len(windows) // n_windows, 1)
        pieces = np.stack([each.mean(axis=0) for each in _split(windows, n_windows, n_pieces)])
        residuals.append(pieces - pieces.mean(axis=0))
    rows = np.concatenate(residuals)
    scatter: Float64Array = rows.T @ rows / max(len(rows), 1)
    return scatter


def _split(windows: Float64Array, n_windows: int, n_pieces: int) -> list[Float64Array]:
    return [
        windows[start : start + n_windows] for start in range(0, n_pieces * n_windows, n_windows)
    ]


def _residuals(clips: Sequence[Float64Array]) -> Float64Array:
    means = clip_means(clips)
    residuals: Float64Array = means - means.mean(axis=0)
    return residuals


def clip_means(clips: Sequence[Float64Array]) -> Float64Array:
    """Return the mean embedding of each clip, shape ``(n_clips, n_dims)``."""
    return np.stack([windows.mean(axis=0) for windows in clips])


def ledoit_wolf(residuals: Float64Array) -> Float64Array:
    """Return the covariance of *residuals* about 0, shrunk towards equal variances.

    Args:
        residuals: Shape ``(n_rows, n_dims)``.

    References:
        Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance
        matrices, section 3.3.
    """
    n_rows, n_dims = residuals.shape
    empirical = residuals.T @ residuals / n_rows
    variance = np.trace(empirical) / n_dims
    distance = np.square(empirical).sum() / n_dims - variance**2
    squares = np.square(residuals)
    noise = (np.square(squares.sum(axis=1)).sum() / n_rows - np.square(empirical).sum()) / n_rows
    share = min(max(noise / n_dims / distance, 0.0), 1.0) if distance > 0.0 else 0.0
    shrunk: Float64Array = (1.0 - share) * empirical + share * variance * np.eye(n_dims)
    return shrunk


def _kernel(n_bins: int, length: float) -> Float64Array:
    """Return ``exp(-|i - j| / length)``, shape ``(n_bins, n_bins)``."""
    index = np.arange(n_bins)
    kernel: Float64Array = np.exp(-np.abs(index[:, None] - index) / length)
    return kernel
