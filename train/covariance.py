"""What varies in normal sound, and what may vary in an anomaly, as matrices over embeddings.

All take *groups*: for each section its clips by domain, the source domain first, each clip as the
embeddings of its windows, shape ``(n_windows, n_dims)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.covariance import ledoit_wolf

from edgeasd.stream import Float64Array
from train.recipe import MahalanobisRecipe

Groups = Sequence[Mapping[str, Sequence[Float64Array]]]

FEW_CLIPS = 16
"""A domain with fewer clips in a section does not show how its sound varies from clip to clip."""

_LEAST_VARIANCE = 1e-6
"""Of a value that was constant in training: it must not decide alone later."""
_TAPER_BINS = 2.0
"""How far apart mel bins are whose noise varies together, whatever its spectrum."""
_ANOMALY_BINS = (2.0, 16.0)
"""How wide an anomaly is, in mel bins: a harmonic, or a band."""


def learn_covariance(groups: Groups, recipe: MahalanobisRecipe) -> Float64Array:
    """Return the covariance of a clip's embedding in normal sound, shape ``(n_dims, n_dims)``.

    The sum of what *recipe* asks for: that within the source domain, between the domains, within
    the target domain, and of the pieces of the clips where there are few.
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
    """Return the covariance of clips about their section's mean in its first domain, pooled.

    Args:
        groups: See above.
        form: ``full``, shrunk as Ledoit and Wolf (2004) do, or ``diagonal``.
    """
    residuals = np.concatenate([_residuals(next(iter(domains.values()))) for domains in groups])
    if form == "full":
        covariance: Float64Array = ledoit_wolf(residuals, assume_centered=True)[0]
    else:
        covariance = np.diag(residuals.var(axis=0))
    return covariance + _LEAST_VARIANCE * np.eye(len(covariance))


def anomaly_prior(groups: Groups) -> Float64Array:
    """Return the covariance that anomalies are supposed to have, up to a factor.

    Neighbouring mel bins vary together, over the width of a harmonic and of a band; bins in which
    the sections differ are those in which the machine is heard, so they vary more.  With one
    section all bins are alike.

    Args:
        groups: See above; the embedding is a value for each mel bin.

    Returns:
        Shape ``(n_mels, n_mels)``, of mean variance 1.
    """
    means = np.stack([clip_means(next(iter(domains.values()))).mean(axis=0) for domains in groups])
    n_mels = means.shape[1]
    # The square root of the spread: between all bins alike and those alone that tell sections.
    variance = means.std(axis=0) + _LEAST_VARIANCE if len(means) > 1 else np.ones(n_mels)
    scale = np.sqrt(variance / variance.mean())
    near = np.mean([_kernel(n_mels, n_bins) for n_bins in _ANOMALY_BINS], axis=0)
    prior: Float64Array = np.outer(scale, scale) * near
    return prior + _LEAST_VARIANCE * np.eye(n_mels)


def _domain_shift(groups: Groups) -> Float64Array:
    """Return the mean outer product of the domains' difference; 0 where there is one domain.

    The directions in which two rooms differ say little about the machine.
    """
    means = [[clip_means(clips).mean(axis=0) for clips in domains.values()] for domains in groups]
    n_dims = len(means[0][0])
    shifts = [target - source for source, target in (each for each in means if len(each) == 2)]
    return sum((np.outer(one, one) for one in shifts), np.zeros((n_dims, n_dims))) / max(
        len(shifts), 1
    )


def _within_target(groups: Groups) -> Float64Array:
    """Return the mean covariance of a section's target clips; 0 where there are none."""
    n_dims = next(iter(groups[0].values()))[0].shape[1]
    spreads = [_residuals(domains["target"]) for domains in groups if len(domains) == 2]
    total = sum((one.T @ one / len(one) for one in spreads), np.zeros((n_dims, n_dims)))
    return total / max(len(spreads), 1)


def _pieces(groups: Groups, n_windows: int) -> Float64Array:
    """Return the scatter of pieces of clips about their clip, of domains with few clips.

    Args:
        groups: See above.
        n_windows: Windows in a piece; what does not fill one is left out, unless it is all.
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


def _kernel(n_bins: int, length: float) -> Float64Array:
    """Return ``exp(-|i - j| / length)``, shape ``(n_bins, n_bins)``."""
    index = np.arange(n_bins)
    kernel: Float64Array = np.exp(-np.abs(index[:, None] - index) / length)
    return kernel
