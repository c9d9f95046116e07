"""Which geometries a model file may have."""

from __future__ import annotations

import numpy as np
import pytest

from edgeasd.common.documents.reading import DocumentError
from edgeasd.detect.features import FeatureSpec, log_mel
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.model.geometry import check_geometry
from edgeasd.detect.windows import WindowSpec, slice_windows

USED = {
    "paper": (FeatureSpec(), WindowSpec()),
    "DCASE baseline": (FeatureSpec(), WindowSpec(5, 1, 1)),
    "clip of ten seconds": (FeatureSpec(), WindowSpec(313, 31, 31)),
    "the same at every frame": (FeatureSpec(), WindowSpec(313, 1, 31)),
    "fine in frequency": (FeatureSpec(n_fft=4096, n_mels=513), WindowSpec(64, 8, 1)),
    "fine in time": (FeatureSpec(n_fft=512, hop_length=80, n_mels=64), WindowSpec(200, 20, 63)),
    "vibration": (
        FeatureSpec(sample_rate=1000, n_fft=256, hop_length=32, n_mels=32, fmax=500.0),
        WindowSpec(),
    ),
    "ultrasound": (
        FeatureSpec(sample_rate=384_000, n_fft=8192, hop_length=4096, fmax=192_000.0),
        WindowSpec(),
    ),
}


@pytest.mark.parametrize("name", USED)
def test_geometry_in_use_is_taken(name: str) -> None:
    """Bounds keep out what is beyond use, and nothing that anybody uses; each can be computed."""
    features, window = USED[name]

    check_geometry(features, window)

    frames = log_mel(np.zeros(features.n_samples(window.n_frames), np.float32), features)
    (values,) = slice_windows(frames, window)
    assert MedianFilter(window.median_frames).process(values).shape == values.shape


@pytest.mark.parametrize(
    ("features", "window", "message"),
    [
        (FeatureSpec(n_fft=65_536), WindowSpec(),
         "features.n_fft times n_mels is 8388608 and must be at most 4194304"),
        (FeatureSpec(n_mels=1024), WindowSpec(2048, 2048, 1),
         "window.n_frames times features.n_mels is 2097152 and must be at most 1048576"),
        (FeatureSpec(n_fft=64, hop_length=64), WindowSpec(4096, 4096, 63),
         "window.n_frames times median_frames times features.n_mels is 33030144 and must be at "
         "most 16777216"),
        (FeatureSpec(sample_rate=100_000, n_fft=8192, hop_length=8192, n_mels=8),
         WindowSpec(1024, 1024, 1),
         "samples in window.n_frames is 8388608 and must be at most 4194304"),
        (FeatureSpec(sample_rate=1000, fmax=500.0), WindowSpec(1024, 1024, 1),
         "seconds in window.n_frames is 525 and must be at most 120"),
        (FeatureSpec(n_fft=4096, hop_length=1, n_mels=8), WindowSpec(64, 64, 1),
         "features.hop_length must be at least 4.1 times as much; no computer keeps up"),
        (FeatureSpec(n_fft=64, hop_length=8), WindowSpec(64, 1, 1),
         "window.hop_frames must be at least 4.1 times as much; no computer keeps up"),
        (FeatureSpec(n_fft=64, hop_length=8, n_mels=8), WindowSpec(8, 1, 1),
         "window.hop_frames must be at least 4.0 times as much; no computer keeps up"),
    ],
    ids=["bank", "window", "median", "samples", "seconds", "frames", "values", "windows"],
)  # fmt: skip
def test_geometry_beyond_memory_or_time_is_refused(
    features: FeatureSpec, window: WindowSpec, message: str
) -> None:
    """Each number may be in its range, and their product too large."""
    with pytest.raises(DocumentError) as caught:
        check_geometry(features, window)

    assert str(caught.value) == message
