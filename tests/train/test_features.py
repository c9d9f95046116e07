from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import train.features
from edgeasd.capture.wavfile import read_clip
from edgeasd.detect.features import FeatureSpec, LogMel
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.windows import WindowSlicer, WindowSpec
from edgeasd.errors import AudioFileError
from edgeasd.stream import AudioBlock
from tests.train.toy import write_clip
from train.datasets import Clip
from train.features import windows_of_clip, windows_of_clips

FEATURES = FeatureSpec()


@pytest.mark.parametrize("median_frames", [1, 31])
def test_windows_of_clip_are_those_of_the_daemon(median_frames: int, tmp_path: Path) -> None:
    """Training sees bit for bit what the streaming stages hand to the network."""
    clip = _clip(tmp_path / "clip.wav")
    window = WindowSpec(median_frames=median_frames)

    windows = windows_of_clip(clip, FEATURES, window).windows()

    median = MedianFilter(median_frames)
    frames = LogMel(FEATURES).process(AudioBlock(read_clip(clip.path), 0))
    expected = [
        median.process(one.values) for one in WindowSlicer(FEATURES, window).process(frames)
    ]
    assert windows.shape == (4, 64, 128)
    assert np.array_equal(windows, np.stack(expected))


def test_windows_of_clip_shorter_than_a_window_are_continued_with_silence(tmp_path: Path) -> None:
    """A clip of 1 s gives one window, whose last frames are at the floor."""
    path = tmp_path / "short.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    clip = Clip(path, "fan", "00", "source", "train", "normal")

    windows = windows_of_clip(clip, FEATURES, WindowSpec(median_frames=1)).windows()

    assert windows.shape == (1, 64, 128)
    assert (windows[0, :30] > -60.0).all()
    assert (windows[0, 32:] == -100.0).all()


def test_windows_of_clip_takes_the_first_channel_at_any_rate(tmp_path: Path) -> None:
    """A stereo FLAC at 48 kHz gives as many windows as mono sound of its length at 16 kHz."""
    path = tmp_path / "stereo.flac"
    left = np.random.default_rng(0).normal(0, 0.1, 3 * 48_000)
    soundfile.write(path, np.stack([left, np.zeros_like(left)], axis=1), 48_000)
    clip = Clip(path, "fan", "00", "source", "train", "normal")

    windows = windows_of_clip(clip, FEATURES, WindowSpec(median_frames=1)).windows()

    assert len(windows) == WindowSpec().n_windows(FEATURES.n_frames(3 * 16_000))
    assert windows[..., :100].mean() > -60.0


def test_windows_of_clips_do_not_depend_on_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several processes give the windows of one, in the order of the clips."""
    clips = [_clip(tmp_path / f"clip{seed}.wav", seed) for seed in range(3)]
    alone = windows_of_clips(clips, FEATURES, WindowSpec())
    monkeypatch.setattr(train.features, "_CLIPS_PER_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    together = windows_of_clips(clips, FEATURES, WindowSpec())

    for one, other in zip(alone, together, strict=True):
        assert one.clip == other.clip
        assert one.digest == other.digest
        assert np.array_equal(one.windows(), other.windows())
    assert len({one.digest for one in alone}) == 3


def test_windows_of_clips_damaged_file_is_named(tmp_path: Path) -> None:
    """A file that is no sound stops the run with its name, rather than being skipped."""
    path = tmp_path / "noise.wav"
    path.write_bytes(b"no sound")

    with pytest.raises(AudioFileError, match=r"noise\.wav"):
        windows_of_clips(
            [Clip(path, "fan", "00", "source", "train", "normal")], FEATURES, WindowSpec()
        )


def _clip(path: Path, seed: int = 0) -> Clip:
    write_clip(path, seed)
    return Clip(path, "fan", "00", "source", "train", "normal")
