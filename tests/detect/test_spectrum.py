"""Tests of how loud normal sound is."""

from __future__ import annotations

import numpy as np
import pytest

from edgeasd.common.types import Float32Array
from edgeasd.detect.model.spectrum import NormalSpectrum, normal_spectrum


def test_normal_spectrum_is_mean_spread_and_peak_of_the_clips() -> None:
    """Level and spread are those of clip means; 2 % of the frames are above the peak."""
    rng = np.random.default_rng(1)
    clips = [(rng.normal(-30 + i, 2.0, (200 + i, 4))).astype(np.float32) for i in range(5)]

    spectrum = normal_spectrum(clips)

    means = np.stack([clip.mean(axis=0) for clip in clips])
    np.testing.assert_allclose(spectrum.level_db, means.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(spectrum.spread_db, means.std(axis=0, ddof=1), atol=1e-4)
    peaks = [np.quantile(clip, 0.98, axis=0) for clip in clips]
    np.testing.assert_allclose(spectrum.peak_db, np.mean(peaks, axis=0), atol=1e-4)


def test_normal_spectrum_of_equal_clips_has_the_least_spread() -> None:
    """Clips that are all the same do not make every other clip stand out."""
    clip = np.random.default_rng(1).normal(-30, 2.0, (50, 4)).astype(np.float32)

    assert normal_spectrum([clip, clip]).spread_db == pytest.approx(0.3)


def test_normal_spectrum_of_one_clip_spreads_as_it_does_over_time() -> None:
    """One clip says nothing about the next one: the widest guess is taken."""
    clip = np.random.default_rng(1).normal(-30, 2.0, (50, 4)).astype(np.float32)

    spectrum = normal_spectrum([clip])

    np.testing.assert_allclose(spectrum.spread_db, clip.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("clips", [[], [np.empty((0, 4), np.float32)]])
def test_normal_spectrum_without_frames_is_refused(clips: list[Float32Array]) -> None:
    """There is no level of nothing."""
    with pytest.raises(ValueError, match="at least one"):
        normal_spectrum(clips)


def test_spectrum_rows_round_trip() -> None:
    """What `rows` gives, `of_rows` takes."""
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)

    np.testing.assert_array_equal(NormalSpectrum.of_rows(rows).rows(), rows)
