"""The spectrum of normal sound, with which ``edgeasd explain`` compares.

A score says how unlike normal sound is, but not in what; a comparison of spectra says it in hertz
and decibels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeasd.common.types import Float32Array, Float64Array

_LEAST_SPREAD_DB = 0.3
"""Least spread between clips, dB: simulated or repeated clips differ less, and any other clip would
stand out from them."""


@dataclass(frozen=True, slots=True, eq=False)
class NormalSpectrum:
    """How loud normal sound is in each mel bin; each array has shape ``(n_mels,)``, float32.

    Attributes:
        level_db: Mean of the log-mel over time, averaged over clips.
        spread_db: Standard deviation of that mean between clips, at least 0.3 dB.
        peak_db: Log-mel that the loudest 2 % of the frames exceed, averaged over clips: impacts
            raise it long before they raise the mean.
    """

    level_db: Float32Array
    spread_db: Float32Array
    peak_db: Float32Array

    @classmethod
    def of_rows(cls, rows: Float32Array | Float64Array) -> NormalSpectrum:
        """Return the spectrum whose `rows` these are."""
        level_db, spread_db, peak_db = rows.astype(np.float32)
        return cls(level_db, spread_db, peak_db)

    def rows(self) -> Float32Array:
        """Return level, spread and peak, shape ``(3, n_mels)``."""
        return np.stack([self.level_db, self.spread_db, self.peak_db])


def peak_level(frames: Float32Array) -> Float64Array:
    """Return the level that 2 % of *frames* exceed in each mel bin, shape ``(n_mels,)``.

    Args:
        frames: Log-mel, shape ``(n_frames, n_mels)``, dB.
    """
    return np.asarray(np.quantile(frames, 0.98, axis=0), np.float64)


def normal_spectrum(clips: Sequence[Float32Array]) -> NormalSpectrum:
    """Return how loud normal sound is.

    Args:
        clips: Log-mel frames of each clip, shape ``(n_frames, n_mels)``, dB; frame counts may
            differ.

    Raises:
        ValueError: If there is no clip, or one without frames.
    """
    if not clips or any(len(frames) == 0 for frames in clips):
        raise ValueError("clips must be at least one, each with at least one frame")
    means = np.stack([frames.mean(axis=0, dtype=np.float64) for frames in clips])
    # One clip does not show how clips differ; how its frames differ stands in for that.
    one = len(clips) == 1
    spread = clips[0].std(axis=0, dtype=np.float64) if one else means.std(axis=0, ddof=1)
    return NormalSpectrum(
        means.mean(axis=0).astype(np.float32),
        np.maximum(spread, _LEAST_SPREAD_DB).astype(np.float32),
        np.mean([peak_level(frames) for frames in clips], axis=0).astype(np.float32),
    )
