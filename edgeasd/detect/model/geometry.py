"""Which geometries of frames and windows can be computed, in memory and in time."""

from __future__ import annotations

from edgeasd.common.documents import DocumentError
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.windows import WindowSpec

MOST_VALUES = 2**20
"""In a window; one of ten seconds, of 128 mel bins, has 40 000."""
MOST_WEIGHTS = 2**22
"""In the mel filter bank while it is made, before its zeros are left out: 16 MB."""
MOST_RANKS = 2**24
"""Values that the median filter sorts at once: 64 MB."""
MOST_SAMPLES = 2**22
"""In a window: 16 MB; 87 s at 48 kHz, 11 s at 384 kHz."""
LONGEST_WINDOW_S = 120.0
MOST_SAMPLES_PER_S = 16_000_000
"""Of all frames of a second of sound.  Frames and windows overlap: with half the hop, all work
doubles.  What a computer really takes for it is measured when a model is tried."""
MOST_VALUES_PER_S = 4_000_000
"""Of all windows of a second of sound."""
MOST_WINDOWS_PER_S = 500


def check_geometry(features: FeatureSpec, window: WindowSpec) -> None:
    """Check the geometry in a model file.

    Raises:
        DocumentError: If it contradicts itself or is beyond use; the message names the field.
    """
    # Much closer edges are equal in floating point, and the mel filters between them nothing.
    if not 0 <= features.fmin <= features.fmax - 1 <= features.sample_rate / 2 - 1:
        raise DocumentError(
            f"features.fmin={features.fmin:g} and fmax={features.fmax:g} must rise by 1 or more "
            f"from 0 to at most half of sample_rate={features.sample_rate}"
        )
    if features.hop_length > features.n_fft or window.hop_frames > window.n_frames:
        raise DocumentError("features.hop_length and window.hop_frames must leave nothing out")
    if window.median_frames // 2 >= window.n_frames:
        raise DocumentError(
            f"window.median_frames={window.median_frames} must be less than twice "
            f"window.n_frames={window.n_frames}"
        )
    _check_size(features, window)
    _check_work(features, window)


def _check_size(features: FeatureSpec, window: WindowSpec) -> None:
    n_values = window.n_frames * features.n_mels
    n_samples = features.n_samples(window.n_frames)
    for name, value, most in (
        ("features.n_fft times n_mels", features.n_fft * features.n_mels, MOST_WEIGHTS),
        ("window.n_frames times features.n_mels", n_values, MOST_VALUES),
        ("window.n_frames times median_frames times features.n_mels",
         n_values * window.median_frames, MOST_RANKS),
        ("samples in window.n_frames", n_samples, MOST_SAMPLES),
        ("seconds in window.n_frames", n_samples / features.sample_rate, LONGEST_WINDOW_S),
    ):  # fmt: skip
        if value > most:
            raise DocumentError(f"{name} is {value:.0f} and must be at most {most:.0f}")


def _check_work(features: FeatureSpec, window: WindowSpec) -> None:
    windows_per_s = features.frames_per_s / window.hop_frames
    values_per_s = windows_per_s * window.n_frames * features.n_mels
    for name, value, most in (
        ("features.hop_length", features.frames_per_s * features.n_fft, MOST_SAMPLES_PER_S),
        ("window.hop_frames", values_per_s, MOST_VALUES_PER_S),
        ("window.hop_frames", windows_per_s, MOST_WINDOWS_PER_S),
    ):
        if value > most:
            raise DocumentError(
                f"{name} must be at least {value / most:.1f} times as much; no computer keeps up"
            )
