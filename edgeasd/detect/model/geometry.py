"""Bounds on the geometry of frames and windows, so that memory and time suffice for it."""

from __future__ import annotations

from edgeasd.common.documents.reading import DocumentError
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.windows import WindowSpec

MOST_VALUES = 2**20
"""Most log-mel values in a window; ten seconds of 128 mel bins have 40 000."""
MOST_WEIGHTS = 2**22
"""Most of n_fft times n_mels: the mel filter bank, zeros included, takes 16 MB while it is made."""
MOST_RANKS = 2**24
"""Most values that the median filter holds while it sorts: 64 MB."""
MOST_SAMPLES = 2**22
"""Most samples in a window, which take 16 MB: 87 s at 48 kHz, 11 s at 384 kHz."""
LONGEST_WINDOW_S = 120.0
"""Most seconds in a window; a longer one would report a fault minutes late."""
MOST_SAMPLES_PER_S = 16_000_000
"""Most samples in all frames of a second of sound.  Frames and windows overlap: half the hop means
twice the work.  How long this computer takes for it is measured when a model is tried."""
MOST_VALUES_PER_S = 4_000_000
"""Most log-mel values in all windows of a second of sound."""
MOST_WINDOWS_PER_S = 500
"""Most windows that start in a second of sound; the network runs once for each."""


def check_geometry(features: FeatureSpec, window: WindowSpec) -> None:
    """Check the rules between the fields of a geometry, each of which is in its range.

    Raises:
        DocumentError: If the fields contradict each other, or together ask for too much memory or
            time; the message names them.
    """
    # Edges that are much closer would be equal in floating point, and the filters empty.
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
