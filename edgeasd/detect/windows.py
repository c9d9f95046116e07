"""Windows over log-mel frames: the input of the model, offline and streamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from edgeasd.common.documents.reading import between, rule
from edgeasd.common.types import Float32Array, LogMelFrames, Window
from edgeasd.detect.features import FeatureSpec

_MEDIAN_LENGTH = rule(
    lambda value: value & (value + 1) == 0,
    "one less than a power of two",
    enum=[2**power - 1 for power in range(1, 15)],
)


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """Geometry of the windows; stored in the model file.

    The defaults are those of Cai et al. (DCASE 2021), section 3: 2.08 s every 256 ms.
    """

    n_frames: Annotated[int, between(1, 16_384)] = 64
    """Frames in a window, which is the third axis of the graph's input.  A window lasts at most
    120 s, is of at most 4 194 304 samples, and holds at most 1 048 576 values."""
    hop_frames: Annotated[int, between(1, 16_384)] = 8
    """Frames between the starts of two windows; at most n_frames.  There are at most 500 windows a
    second, with at most 4 000 000 values in them."""
    median_frames: Annotated[int, between(1, 16_383), _MEDIAN_LENGTH] = 31
    """Length of the median filter along time, frames: one less than a power of two and less than
    twice n_frames; times n_frames and n_mels at most 16 777 216; 1 leaves the window as it is."""

    def n_windows(self, n_frames: int) -> int:
        """Return the number of whole windows in *n_frames* frames."""
        if n_frames < self.n_frames:
            return 0
        return 1 + (n_frames - self.n_frames) // self.hop_frames


def slice_windows(frames: Float32Array, spec: WindowSpec) -> Float32Array:
    """Return the windows of a whole clip, as a view.

    Args:
        frames: Shape ``(n_frames, n_mels)``, dB.
        spec: Window geometry.

    Returns:
        Shape ``(n_windows, spec.n_frames, n_mels)``, read-only, where ``n_windows`` is
        ``1 + (n_frames - spec.n_frames) // spec.hop_frames``, or 0 for a shorter input.
    """
    if len(frames) < spec.n_frames:
        return np.empty((0, spec.n_frames, frames.shape[1]), frames.dtype)
    views = np.lib.stride_tricks.sliding_window_view(frames, spec.n_frames, axis=0)
    windows: Float32Array = views[:: spec.hop_frames].transpose(0, 2, 1)
    return windows


class WindowSlicer:
    """Streaming twin of `slice_windows`; keeps the frames that the next window needs."""

    def __init__(self, features: FeatureSpec, spec: WindowSpec) -> None:
        self._spec = spec
        self._hop_length = features.hop_length
        self._n_samples = features.n_samples(spec.n_frames)
        self._pending: list[Float32Array] = []
        self._n_pending = 0
        self._first_sample = 0

    def process(self, frames: LogMelFrames) -> list[Window]:
        """Return the windows that end in *frames*.

        Raises:
            ValueError: If *frames* do not continue those before them.
        """
        if not self._pending:
            self._first_sample = frames.first_sample
        expected = self._first_sample + self._n_pending * self._hop_length
        if frames.first_sample != expected:
            raise ValueError(f"first_sample={frames.first_sample} must be {expected}")
        self._pending.append(frames.values)
        self._n_pending += len(frames.values)
        n_windows = self._spec.n_windows(self._n_pending)
        if n_windows == 0:
            return []
        values = np.concatenate(self._pending)
        hop = self._spec.hop_frames
        windows = [
            Window(
                values[start : start + self._spec.n_frames],
                self._first_sample + start * self._hop_length,
                self._n_samples,
            )
            for start in range(0, n_windows * hop, hop)
        ]
        self._pending = [values[n_windows * hop :]]
        self._n_pending = len(self._pending[0])
        self._first_sample += n_windows * hop * self._hop_length
        return windows

    def reset(self) -> None:
        """Forget the stream; the next frames start a new one."""
        self._pending = []
        self._n_pending = 0
