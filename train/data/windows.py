"""Turns clips into windows in parallel processes, with the same functions as the daemon.

Nothing here imports torch, so that the processes start quickly.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.common.errors import AudioFileError
from edgeasd.common.types import Float32Array
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.model.spectrum import NormalSpectrum, normal_spectrum
from edgeasd.detect.pipeline import clip_frames
from edgeasd.detect.windows import WindowSpec, slice_windows
from train.console import tracked
from train.data.clips import Clip

_T = TypeVar("_T")

_CLIPS_PER_PROCESS = 32
"""With fewer clips a process takes longer to start than to work (0.5 s against 25 ms a clip)."""

_N_SPECTRUM = 50
"""Clips for the spectrum of normal sound; more would not change their mean visibly."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipWindows:
    """The windows of one clip.

    Without a median filter, windows overlap and *rows* are the frames of the clip.  With one, each
    window is filtered by itself and *rows* are the windows one after the other.

    Attributes:
        clip: The clip.
        rows: Log-mel rows, shape ``(n_rows, n_mels)``, dB.
        starts: First row of each window, shape ``(n_windows,)``.
        n_frames: Number of rows in a window.
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

    A clip shorter than one window is padded with zeros to one window.

    Raises:
        AudioFileError: If clips cannot be read; all are tried first, and the message names each.
    """
    work = partial(_windows_or_error, features=features, window=window)
    made: list[ClipWindows] = []
    errors: list[AudioFileError] = []
    for one in tracked(_map(work, clips), "log-mel", len(clips)):
        if isinstance(one, AudioFileError):
            errors.append(one)
        else:
            made.append(one)
    if errors:
        raise _joined(errors)
    return made


def windows_of_clip(clip: Clip, features: FeatureSpec, window: WindowSpec) -> ClipWindows:
    """Return the windows of one clip; see `windows_of_clips`.

    Raises:
        AudioFileError: If the clip cannot be read.
    """
    samples = read_clip(clip.path, clip.channel, features.sample_rate)
    frames = clip_frames(samples, features, window)
    starts = np.arange(window.n_windows(len(frames))) * window.hop_frames
    if window.median_frames > 1:
        median = MedianFilter(window.median_frames)
        frames = np.concatenate([median.process(one) for one in slice_windows(frames, window)])
        starts = np.arange(len(starts)) * window.n_frames
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    return ClipWindows(clip, frames, starts, window.n_frames, digest)


def spectrum_of_clips(
    clips: Sequence[Clip], features: FeatureSpec, window: WindowSpec
) -> NormalSpectrum:
    """Return the spectrum of normal sound from at most 50 of *clips*, evenly spaced.

    Raises:
        AudioFileError: If a clip cannot be read.
    """
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), _N_SPECTRUM)).round().astype(int)
    read = (clips[index] for index in chosen)
    return normal_spectrum(
        [
            clip_frames(read_clip(clip.path, clip.channel, features.sample_rate), features, window)
            for clip in read
        ]
    )


def _windows_or_error(
    clip: Clip, features: FeatureSpec, window: WindowSpec
) -> ClipWindows | AudioFileError:
    try:
        return windows_of_clip(clip, features, window)
    except AudioFileError as exc:
        return exc


def _joined(errors: Sequence[AudioFileError]) -> AudioFileError:
    if len(errors) == 1:
        return errors[0]
    lines = "".join(f"\n  {error}" for error in errors)
    return AudioFileError(f"{len(errors)} clips cannot be read; repair or remove them:{lines}")


def _map(work: Callable[[Clip], _T], clips: Sequence[Clip]) -> Iterator[_T]:
    n_processes = min(os.cpu_count() or 1, len(clips) // _CLIPS_PER_PROCESS)
    if n_processes < 2:
        yield from map(work, clips)
        return
    # Spawned, not forked, because torch may run threads, whose locks would be copied.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, context) as pool:
        yield from pool.map(work, clips, chunksize=8)
