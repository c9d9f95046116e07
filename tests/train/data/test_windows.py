from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import train.data.windows
from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.common.errors import AudioFileError
from edgeasd.common.types import AudioBlock
from edgeasd.detect.features import FeatureSpec, LogMel
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.windows import WindowSlicer, WindowSpec
from tests.train.toy import write_clip
from train.data.clips import Clip
from train.data.windows import windows_of_clip, windows_of_clips

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


def test_windows_of_clip_takes_the_channel_of_the_clip(tmp_path: Path) -> None:
    """Of the eight channels of a recording of MIMII, the one asked for is heard."""
    path = tmp_path / "array.wav"
    samples = np.zeros((3 * 16_000, 8))
    samples[:, 5] = np.random.default_rng(0).normal(0, 0.1, len(samples))
    soundfile.write(path, samples, 16_000)
    clip = Clip(path, "fan", "00", "source", "train", "normal", channel=5)

    heard = windows_of_clip(clip, FEATURES, WindowSpec(median_frames=1)).windows()
    silent = windows_of_clip(replace(clip, channel=4), FEATURES, WindowSpec(median_frames=1))

    assert heard.mean() > -60.0
    assert (silent.windows() == -100.0).all()


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 96_000])
def test_windows_of_clip_at_any_rate_are_as_many(sample_rate: int, tmp_path: Path) -> None:
    """The number of windows depends on the length in seconds alone."""
    path = tmp_path / "clip.flac"
    soundfile.write(path, np.zeros(3 * sample_rate), sample_rate)
    clip = Clip(path, "fan", "00", "source", "train", "normal")

    windows = windows_of_clip(clip, FEATURES, WindowSpec(median_frames=1)).windows()

    assert len(windows) == WindowSpec().n_windows(FEATURES.n_frames(3 * 16_000))


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
    monkeypatch.setattr(train.data.windows, "_CLIPS_PER_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    together = windows_of_clips(clips, FEATURES, WindowSpec())

    for one, other in zip(alone, together, strict=True):
        assert one.clip == other.clip
        assert one.digest == other.digest
        assert np.array_equal(one.windows(), other.windows())
    assert len({one.digest for one in alone}) == 3


@pytest.mark.parametrize("n_processes", [1, 2])
def test_windows_of_clips_unreadable_files_are_named_at_once(
    n_processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are no sound stop the run with all their names, rather than being skipped."""
    monkeypatch.setattr(train.data.windows, "_CLIPS_PER_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: n_processes)
    good = _clip(tmp_path / "good.wav")
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    (tmp_path / "empty.flac").touch()
    bad = [replace(good, path=tmp_path / name) for name in ("noise.wav", "empty.flac")]

    with pytest.raises(AudioFileError) as error:
        windows_of_clips([bad[0], good, bad[1]], FEATURES, WindowSpec())

    assert str(error.value) == (
        "2 clips cannot be read; repair or remove them:\n"
        f"  {tmp_path}/noise.wav: is not a sound file that can be read; convert it to WAV or FLAC\n"
        f"  {tmp_path}/empty.flac: is empty; record it again"
    )


def test_windows_of_clips_one_unreadable_file_is_one_line(tmp_path: Path) -> None:
    """A single file is told as the daemon tells it."""
    path = tmp_path / "empty.wav"
    path.touch()
    clip = Clip(path, "fan", "00", "source", "train", "normal")

    with pytest.raises(AudioFileError) as error:
        windows_of_clips([clip], FEATURES, WindowSpec())

    assert str(error.value) == f"{path}: is empty; record it again"


def _clip(path: Path, seed: int = 0) -> Clip:
    write_clip(path, seed)
    return Clip(path, "fan", "00", "source", "train", "normal")
