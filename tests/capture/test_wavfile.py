"""Recordings: every sample exact, every broken file named with its remedy."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from edgeasd.capture.recording.wavfile import WavFile, read_clip
from edgeasd.capture.source import open_source
from edgeasd.common.config.keys import FileConfig
from edgeasd.common.errors import AudioFileError
from edgeasd.detect.features import FeatureSpec, log_mel

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 44


def integers(n_samples: int, *, n_channels: int = 1) -> npt.NDArray[np.int16]:
    """Return random 16-bit samples with both extremes among them."""
    rng = np.random.default_rng(5)
    values = rng.integers(-32_768, 32_768, (n_samples, n_channels)).astype(np.int16)
    values[:2] = [[-32_768], [32_767]]
    return values


def write(path: Path, values: npt.NDArray[np.generic], subtype: str, rate: int = 16_000) -> Path:
    """Write a sound file and return its path."""
    soundfile.write(path, values, rate, subtype=subtype)
    return path


def read_all(source: WavFile) -> npt.NDArray[np.float32]:
    """Return all samples of *source*, checking positions and its end."""
    pieces = []
    position = 0
    while not source.ended:
        block = source.read(5.0)
        assert block is not None
        assert block.first_sample == position
        assert block.samples.dtype == np.float32
        position += block.samples.size
        pieces.append(block.samples)
    assert source.read(0.0) is None
    return np.concatenate(pieces)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """Return the path of a second of 16-bit sound."""
    return write(tmp_path / "clip.wav", integers(16_000), "PCM_16")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("n_samples", [1, 1023, 1024, 1025, 2048, 20_000])
@pytest.mark.parametrize("channel", [0, 2])
def test_wavfile_16_bit_samples_are_exact(
    tmp_path: Path, suffix: str, n_samples: int, channel: int
) -> None:
    """A 16-bit sample is its value over 32768, in every channel, for every length."""
    values = integers(max(n_samples, 2), n_channels=3)[:n_samples]
    path = write(tmp_path / f"clip{suffix}", values, "PCM_16", 44_100)

    source = WavFile(path, channel)

    assert source.sample_rate == 44_100
    assert np.array_equal(read_all(source), values[:, channel] / np.float32(32_768.0))
    source.close()


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_24", 2.0**-23),
        (".flac", "PCM_24", 2.0**-23),
        (".wav", "PCM_32", 2.0**-24),
        (".wav", "FLOAT", 0.0),
        (".wav", "DOUBLE", 2.0**-25),
    ],
)
def test_wavfile_other_formats_are_as_exact_as_they_can_be(
    tmp_path: Path, suffix: str, subtype: str, tolerance: float
) -> None:
    """24 and 32 bits and floats come within a step of their own or of float32."""
    values = np.random.default_rng(1).uniform(-0.9, 0.9, 5_000).astype(np.float32)
    path = write(tmp_path / f"clip{suffix}", values.astype(np.float64), subtype, 48_000)

    actual = read_all(WavFile(path))

    assert np.max(np.abs(actual - values)) <= tolerance


def test_wavfile_paced_keeps_real_time(wav: Path) -> None:
    """No block comes before a sound card could deliver it."""
    source = WavFile(wav, paced=True)
    start_s = time.monotonic()

    early = source.read(0.001)
    for _ in range(4):
        source.read(5.0)

    assert early is None
    assert time.monotonic() - start_s >= 4 * 1024 / 16_000
    source.close()


def test_wavfile_repeated_begins_anew_without_a_gap(wav: Path) -> None:
    """A file that repeats is one stream without end: positions go on where the file ends."""
    source = WavFile(wav, repeat=True)
    once = integers(16_000)[:, 0] / np.float32(32_768.0)

    blocks = [block for _ in range(40) if (block := source.read(0.0)) is not None]

    samples = np.concatenate([block.samples for block in blocks])
    starts = np.cumsum([0, *(block.samples.size for block in blocks)])
    assert [block.first_sample for block in blocks] == starts[:-1].tolist()
    assert not source.ended
    assert samples.size > 2 * once.size
    assert np.array_equal(samples, np.resize(once, samples.size))


def test_wavfile_closed_gives_nothing_more(wav: Path) -> None:
    """After `close` a read returns None at once, and a read that waits returns."""
    source = WavFile(wav, paced=True)
    reader = threading.Thread(target=lambda: list(iter(lambda: source.read(30.0), None)))
    reader.start()

    source.close()
    reader.join(60.0)

    assert not reader.is_alive()
    assert source.read(30.0) is None


def test_wavfile_closed_by_another_thread_while_read_does_no_harm(wav: Path) -> None:
    """A file may be closed at any moment."""
    for _ in range(50):
        source = WavFile(wav)
        reader = threading.Thread(target=lambda s=source: list(iter(lambda: s.read(0.0), None)))
        reader.start()

        source.close()
        reader.join(60.0)

        assert source.read(0.0) is None


def test_open_source_file_config_gives_the_file(wav: Path) -> None:
    """The file has the form of every source, and no fault."""
    source = open_source(FileConfig(wav, paced=False))

    assert isinstance(source, WavFile)
    assert (source.sample_rate, source.ended, source.overruns, source.fault) == (
        16_000,
        False,
        0,
        "",
    )
    source.close()


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_read_clip_equals_the_offline_resampled_file(tmp_path: Path, rate: int) -> None:
    """A clip is the whole file at the wanted rate, bit for bit as soxr makes it."""
    values = integers(30_001, n_channels=2)
    path = write(tmp_path / "clip.wav", values, "PCM_16", rate)
    expected = values[:, 1] / np.float32(32_768.0)
    if rate != 16_000:
        expected = soxr.resample(expected, rate, 16_000, quality="HQ")

    actual = read_clip(path, channel=1)

    assert actual.dtype == np.float32
    assert np.array_equal(actual, expected)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Run the test without the rights of root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    yield
    os.seteuid(0)


def test_wavfile_without_permission_is_refused(
    wav: Path, unprivileged: None, request: pytest.FixtureRequest
) -> None:
    """A file that this user may not read is named, with the remedy."""
    del unprivileged
    if os.geteuid() != 65_534:
        wav.chmod(0)
        request.addfinalizer(lambda: wav.chmod(0o600))

    with pytest.raises(AudioFileError) as caught:
        WavFile(wav)

    assert str(caught.value) == (
        f"{wav}: cannot be read (Permission denied); check that this user may read it"
    )


def make_directory(path: Path) -> None:
    """Make a directory where a file is expected."""
    path.mkdir()


def make_pipe(path: Path) -> None:
    """Make a pipe where a file is expected."""
    os.mkfifo(path)


def make_header(path: Path) -> None:
    """Make a sound file that ends after its header."""
    path.write_bytes(write(path, integers(100), "PCM_16").read_bytes()[:HEADER_BYTES])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.wav", lambda _: None, "does not exist; check the path"),
        ("a.wav", make_directory, "is not a file; name one WAV or FLAC file"),
        ("a.wav", make_pipe, "is not a file; name one WAV or FLAC file"),
        ("a.wav", Path.touch, "is empty; record it again"),
        (
            "a.wav",
            lambda path: path.write_text("not sound"),
            "is not a sound file that can be read; convert it to WAV or FLAC",
        ),
        (
            "a.raw",
            lambda path: path.write_bytes(bytes(1000)),
            "is not a sound file that can be read; convert it to WAV or FLAC",
        ),
        ("a.wav", make_header, "contains no sample; record it again"),
        (
            "a.wav",
            lambda path: write(path, np.full(100, np.nan, np.float32), "FLOAT"),
            "contains no sample; record it again",
        ),
    ],
)
def test_wavfile_unusable_file_is_refused(
    tmp_path: Path, name: str, make: object, message: str
) -> None:
    """The message names the file and what to do."""
    path = tmp_path / name
    assert callable(make)
    make(path)

    with pytest.raises(AudioFileError) as caught:
        WavFile(path)

    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("n_channels", "message"),
    [
        (1, "channel=2 must be from 0 to 0, as the file has 1 channel"),
        (2, "channel=2 must be from 0 to 1, as the file has 2 channels"),
    ],
)
def test_wavfile_missing_channel_is_refused(tmp_path: Path, n_channels: int, message: str) -> None:
    """The message says how many channels the file has."""
    path = write(tmp_path / "clip.wav", integers(100, n_channels=n_channels), "PCM_16")

    with pytest.raises(AudioFileError) as caught:
        WavFile(path, 2)

    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("rate", [1, 999, 1_000_001])
def test_wavfile_with_the_rate_of_a_damaged_header_is_refused(wav: Path, rate: int) -> None:
    """A second of sound that claims to last hours is not resampled to gigabytes."""
    content = bytearray(wav.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    wav.write_bytes(content)

    with pytest.raises(AudioFileError) as caught:
        WavFile(wav)

    assert str(caught.value) == (
        f"{wav}: sample_rate={rate} must be from 1000 to 1000000; record it again"
    )


def test_wavfile_whose_name_is_no_text_is_read(wav: Path) -> None:
    """A name that is not UTF-8, as an old archive may have, is as good as any other."""
    path = wav.rename(os.fsdecode(os.fsencode(wav.with_suffix("")) + b"-\xff.wav"))

    assert read_all(WavFile(path)).size == 16_000


def test_wavfile_cut_short_gives_what_is_there(wav: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a WAV file that lost its end the rest is delivered, with a warning."""
    wav.write_bytes(wav.read_bytes()[: HEADER_BYTES + 10_000])

    actual = read_all(WavFile(wav))

    assert np.array_equal(actual, integers(16_000)[:5_000, 0] / np.float32(32_768.0))
    assert caplog.messages == [
        f"{wav}: is cut short, with 10000 of 32000 bytes of sound; they are used"
    ]


def test_wavfile_recorded_through_a_pipe_is_no_reason_to_warn(
    wav: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A recorder that cannot know the length puts a placeholder into the header."""
    content = bytearray(wav.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    wav.write_bytes(content)

    actual = read_all(WavFile(wav))

    assert actual.size == 16_000
    assert caplog.messages == []


def test_wavfile_damaged_flac_gives_what_is_before_the_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a FLAC file that lost its end the rest is delivered, with a warning."""
    values = integers(60_000)
    path = write(tmp_path / "clip.flac", values, "PCM_16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    actual = read_all(WavFile(path))

    assert 10_000 < actual.size < 31_000
    assert np.array_equal(actual, values[: actual.size, 0] / np.float32(32_768.0))
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.messages[0].startswith(f"{path}: is damaged after sample {actual.size} (")


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38])
def test_wavfile_with_a_value_that_is_no_sound_stops_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    """What is no number, or would be none after the next stage, never reaches it."""
    values = np.zeros(5_000, np.float32)
    values[3_000] = value
    path = write(tmp_path / "clip.wav", values, "FLOAT")

    actual = read_all(WavFile(path))

    assert actual.size == 2_048
    assert caplog.messages == [
        f"{path}: is damaged after sample 2048 (a sample is not a number or far beyond full "
        "scale); the rest is left out"
    ]


def test_wavfile_of_whole_numbers_as_floats_is_read(tmp_path: Path) -> None:
    """Full scale of 32 bits, at another rate, with finite log-mel frames behind it."""
    noise = np.random.default_rng(1).uniform(-(2.0**31), 2.0**31, 8_000).astype(np.float32)

    samples = read_clip(write(tmp_path / "clip.wav", noise, "FLOAT", 8_000))

    assert samples.size == 16_000
    assert np.isfinite(log_mel(samples, FeatureSpec())).all()
