"""Clips to windows, in parallel processes, by the functions that the daemon runs.

Nothing here imports torch: the processes start the faster.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from rich.progress import track

from edgeasd.capture.wavfile import read_clip
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.pipeline import clip_frames
from edgeasd.detect.windows import WindowSpec, slice_windows
from edgeasd.stream import Float32Array
from train.console import console
from train.datasets import Clip

_CLIPS_PER_PROCESS = 32
"""Below this many a process takes longer to start than to work (0.5 s against 25 ms a clip)."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipWindows:
    """The windows of one clip.

    Without a median filter they overlap, and *rows* are the clip's frames; a filtered window is
    its own, and *rows* are the windows one after the other.

    Attributes:
        clip: Where they come from.
        rows: Shape ``(n_rows, n_mels)``, dB.
        starts: First row of each window, shape ``(n_windows,)``.
        n_frames: Rows in a window.
        digest: SHA-256 of the samples, hexadecimal.
    """

    clip: Clip
    rows: Float32Array
    starts: npt.NDArray[np.int64]
    n_frames: int
    digest: str

    def windows(self) -> Float32Array:
        """Return the windows, shape ``(n_windows, n_frames, n_mels)``."""
        windows: Float32Array = self.rows[self.starts[:, None] + np.arange(self.n_frames)]
        return windows


def windows_of_clips(
    clips: Sequence[Clip], features: FeatureSpec, window: WindowSpec
) -> list[ClipWindows]:
    """Return the windows of each of *clips*, with a progress bar.

    A clip shorter than one window is continued with silence, samples of zero, to one window.

    Raises:
        AudioFileError: If a clip cannot be read.
    """
    work = partial(windows_of_clip, features=features, window=window)
    return list(track(_map(work, clips), "log-mel", len(clips), console=console, transient=True))


def windows_of_clip(clip: Clip, features: FeatureSpec, window: WindowSpec) -> ClipWindows:
    """Return the windows of one clip, of its first channel; see `windows_of_clips`."""
    samples = read_clip(clip.path, sample_rate=features.sample_rate)
    frames = clip_frames(samples, features, window)
    starts = np.arange(window.n_windows(len(frames))) * window.hop_frames
    if window.median_frames > 1:
        median = MedianFilter(window.median_frames)
        frames = np.concatenate([median.process(one) for one in slice_windows(frames, window)])
        starts = np.arange(len(starts)) * window.n_frames
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    return ClipWindows(clip, frames, starts, window.n_frames, digest)


def _map(work: partial[ClipWindows], clips: Sequence[Clip]) -> Iterator[ClipWindows]:
    n_processes = min(os.cpu_count() or 1, len(clips) // _CLIPS_PER_PROCESS)
    if n_processes < 2:
        yield from map(work, clips)
        return
    # Spawned, not forked: torch may run threads by now, and their locks would be copied.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, context) as pool:
        yield from pool.map(work, clips, chunksize=8)
