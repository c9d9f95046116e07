"""Tests of the log-mel frames, against librosa and against themselves."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.detect.features import (
    FeatureSpec,
    FrameTransform,
    LogMel,
    hz_to_mel,
    log_mel,
    lost_band,
    mel_filter_bank,
    mel_to_hz,
)
from tests.detect.cutting import BLOCK_LENGTHS, cut_at, cut_every, cuts, noise

SPEC = FeatureSpec()
LENGTHS = (0, 1, 1023, 1024, 1025, 1535, 1536, 1537, 2047, 2048, 2049)
SPECS = (
    SPEC,
    FeatureSpec(sample_rate=48_000, n_fft=2048, hop_length=1000, n_mels=64, fmin=50, fmax=20_000),
    FeatureSpec(sample_rate=8_000, n_fft=300, hop_length=300, n_mels=20, fmax=4_000),
)


def streamed(blocks: list[AudioBlock], stage: LogMel) -> Float32Array:
    """Return the frames that *stage* makes of *blocks*, checking their positions."""
    rows = [np.empty((0, SPEC.n_mels), np.float32)]
    expected = blocks[0].first_sample if blocks else 0
    for block in blocks:
        frames = stage.process(block)
        assert frames.first_sample == expected
        expected += len(frames.values) * SPEC.hop_length
        rows.append(frames.values)
    return np.concatenate(rows)


def librosa_log_mel(samples: Float32Array, spec: FeatureSpec) -> Float32Array:
    """Return what librosa makes of *samples*, shape ``(n_frames, n_mels)``.

    librosa computes in the type of its input.  It gets float64, as ours computes in: in float32 the
    rounding noise of its transform, some 140 dB below the loudest bin, stands above the floor next
    to a pure tone at full scale, and the comparison would measure librosa.
    """
    power = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        center=False,
        power=2.0,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=False,
        norm="slaney",
        dtype=np.float64,
    )
    decibels: Float32Array = librosa.power_to_db(power, ref=1.0, amin=spec.floor, top_db=None).T
    return decibels


def tone(frequency: float, level: float = 1.0, n_samples: int = 16_000) -> Float32Array:
    """Return a sine of *frequency* hertz and amplitude *level* at 16 kHz."""
    time_s = np.arange(n_samples) / SPEC.sample_rate
    return (level * np.sin(2 * np.pi * frequency * time_s)).astype(np.float32)


# --- streamed equals offline ---------------------------------------------------------------------


@pytest.mark.parametrize("block_length", BLOCK_LENGTHS)
@pytest.mark.parametrize("n_samples", [*LENGTHS, 20_000])
def test_log_mel_streamed_equals_offline(n_samples: int, block_length: int) -> None:
    """Frames do not depend on the block size, bit for bit."""
    samples = noise(n_samples)

    frames = streamed(cut_every(samples, block_length), LogMel(SPEC))

    np.testing.assert_array_equal(frames, log_mel(samples, SPEC))


@settings(max_examples=50)
@given(cuts(8_000), st.integers(0, 2**40))
def test_log_mel_any_cut_equals_offline(places: list[int], first_sample: int) -> None:
    """Frames depend neither on the cut nor on the position in the stream, bit for bit."""
    samples = noise(8_000)

    frames = streamed(cut_at(samples, places, first_sample), LogMel(SPEC))

    np.testing.assert_array_equal(frames, log_mel(samples, SPEC))


def test_log_mel_blocks_reused_by_the_source_do_no_harm() -> None:
    """Frames stay right if the source overwrites a block after it was processed."""
    samples = noise(5_000)
    stage = LogMel(SPEC)
    buffer = np.empty(1_000, np.float32)
    rows = []

    for start in range(0, 5_000, 1_000):
        buffer[:] = samples[start : start + 1_000]
        rows.append(stage.process(AudioBlock(buffer, start)).values)

    np.testing.assert_array_equal(np.concatenate(rows), log_mel(samples, SPEC))


def test_log_mel_reset_equals_new() -> None:
    """After a reset nothing of the stream before is left, and any position may follow."""
    stage = LogMel(SPEC)
    stage.process(AudioBlock(noise(1_700, seed=1), 0))

    stage.reset()
    frames = streamed(cut_every(noise(5_000), 700, first_sample=77), stage)

    np.testing.assert_array_equal(frames, log_mel(noise(5_000), SPEC))


@pytest.mark.parametrize("first_sample", [0, 1_999, 2_001, 4_000])
def test_log_mel_block_that_does_not_continue_raises(first_sample: int) -> None:
    """A jump in the positions is a bug of the caller, told with both positions."""
    stage = LogMel(SPEC)
    stage.process(AudioBlock(noise(2_000), 0))

    with pytest.raises(ValueError, match=f"^first_sample={first_sample} must be 2000$"):
        stage.process(AudioBlock(noise(10), first_sample))


def test_log_mel_refused_block_changes_nothing() -> None:
    """After a refused block the stream goes on as if it had not been there."""
    stage = LogMel(SPEC)
    samples = noise(4_000)
    first = stage.process(AudioBlock(samples[:2_000], 0)).values
    with pytest.raises(ValueError, match="must be 2000"):
        stage.process(AudioBlock(samples, 0))

    second = stage.process(AudioBlock(samples[2_000:], 2_000)).values

    np.testing.assert_array_equal(np.concatenate((first, second)), log_mel(samples, SPEC))


# --- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("n_samples", [*LENGTHS, 160_000])
def test_log_mel_shape_is_as_the_spec_counts(spec: FeatureSpec, n_samples: int) -> None:
    """There are as many frames as fit, counted one by one."""
    n_frames = sum(
        start + spec.n_fft <= n_samples for start in range(0, n_samples, spec.hop_length)
    )

    frames = log_mel(np.zeros(n_samples, np.float32), spec)

    assert frames.shape == (n_frames, spec.n_mels)
    assert frames.dtype == np.float32
    assert spec.n_frames(n_samples) == n_frames


def test_spec_clip_of_ten_seconds_has_311_frames() -> None:
    """A clip of ten seconds gives 311 frames, as the paper counts."""
    assert SPEC.n_frames(160_000) == 311
    assert SPEC.frames_per_s == 31.25


@given(st.integers(0, 1_000))
def test_spec_n_samples_is_the_least_that_gives_the_frames(n_frames: int) -> None:
    """So many samples give so many frames, and one less gives one less."""
    n_samples = SPEC.n_samples(n_frames)

    assert SPEC.n_frames(n_samples) == n_frames
    assert SPEC.n_frames(max(n_samples - 1, 0)) == max(n_frames - 1, 0)


def test_log_mel_two_channels_raises() -> None:
    """Sound must be mono."""
    with pytest.raises(ValueError, match=r"^samples.ndim=2 must be 1$"):
        FrameTransform(SPEC)(np.zeros((2_000, 2), np.float32))


# --- against librosa -----------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_mel_filter_bank_equals_librosa(spec: FeatureSpec) -> None:
    """The mel bank is librosa's, to float64 rounding."""
    expected = librosa.filters.mel(
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=False,
        norm="slaney",
        dtype=np.float64,
    )

    np.testing.assert_allclose(mel_filter_bank(spec), expected, rtol=1e-9, atol=1e-15)


def test_mel_scale_equals_librosa() -> None:
    """The mel scale is Slaney's, both ways, across its knee at 1 kHz."""
    frequency = np.linspace(0.0, 24_000.0, 2_401)

    mel = hz_to_mel(frequency)

    np.testing.assert_allclose(mel, librosa.hz_to_mel(frequency), rtol=1e-12)
    np.testing.assert_allclose(mel_to_hz(mel), frequency, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "samples",
    [
        noise(16_000),
        noise(16_000, level=1e-4),
        tone(1_000.0),  # bin 64 of 1024
        tone(1_000.0 + 16_000 / 1024 / 2),  # half way between two bins
        tone(3_333.3),
        tone(40.0, level=0.1),
        tone(7_990.0),
        np.zeros(16_000, np.float32),
        np.ones(16_000, np.float32),
        np.sign(tone(440.0)),
    ],
    ids=["noise", "faint noise", "tone on a bin", "tone between bins", "tone", "deep tone",
         "high tone", "silence", "constant", "square"],
)  # fmt: skip
def test_log_mel_equals_librosa(samples: Float32Array) -> None:
    """Frames are librosa's within 1e-3 dB, even in bins 140 dB below a tone."""
    frames = log_mel(samples, SPEC)

    np.testing.assert_allclose(frames, librosa_log_mel(samples, SPEC), rtol=0, atol=1e-3)


@pytest.mark.parametrize("spec", SPECS[1:])
def test_log_mel_of_another_geometry_equals_librosa(spec: FeatureSpec) -> None:
    """Other frames, rates and bands are librosa's too."""
    samples = noise(16_000)

    frames = log_mel(samples, spec)

    np.testing.assert_allclose(frames, librosa_log_mel(samples, spec), rtol=0, atol=1e-3)


@pytest.mark.data
def test_log_mel_of_recordings_equals_librosa(data_folder: Path) -> None:
    """Frames of real machines are librosa's within 1e-3 dB."""
    paths = sorted((data_folder / "dcase2020" / "slider" / "test").glob("*.flac"))[:3]
    assert paths

    for path in paths:
        samples, sample_rate = soundfile.read(path, dtype="float32")
        assert sample_rate == SPEC.sample_rate
        frames = log_mel(samples, SPEC)
        np.testing.assert_allclose(frames, librosa_log_mel(samples, SPEC), rtol=0, atol=1e-3)


# --- invariants ----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [*SPECS, FeatureSpec(n_mels=1), FeatureSpec(n_mels=3, n_fft=333)])
def test_log_mel_adds_up_each_filter_in_the_order_of_frequency(spec: FeatureSpec) -> None:
    """Frames are those of a plain loop over the terms of each filter, bit for bit."""
    samples = noise(spec.n_samples(3))
    taper = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(spec.n_fft) / spec.n_fft)
    expected = np.empty((3, spec.n_mels))
    for index in range(3):
        frame = samples[index * spec.hop_length :][: spec.n_fft]
        parts = np.fft.rfft(frame * taper).view(np.float64)
        for mel, weights in enumerate(np.repeat(mel_filter_bank(spec), 2, axis=1)):
            total = 0.0
            for part, weight in zip(parts.tolist(), weights.tolist(), strict=True):
                total += weight * (part * part)
            expected[index, mel] = max(total, spec.floor)

    frames = log_mel(samples, spec)

    np.testing.assert_array_equal(frames, (10.0 * np.log10(expected)).astype(np.float32))


def test_log_mel_of_silence_is_the_floor() -> None:
    """Digital silence gives the floor, -100 dB, everywhere."""
    frames = log_mel(np.zeros(4_096, np.float32), SPEC)

    assert (frames == -100.0).all()


def test_log_mel_ten_times_louder_is_20_db_more() -> None:
    """Gain moves every bin by its decibels, whatever else is in the frame."""
    samples = noise(8_000, level=0.05)

    louder = log_mel(samples * np.float32(10.0), SPEC)

    np.testing.assert_allclose(louder, log_mel(samples, SPEC) + 20.0, rtol=0, atol=1e-4)


def test_log_mel_of_a_tone_peaks_where_the_tone_is() -> None:
    """The loudest bin is the one whose centre is nearest to the tone, on the mel scale."""
    edges = np.linspace(0.0, librosa.hz_to_mel(8_000.0), SPEC.n_mels + 2)[1:-1]

    for frequency in (250.0, 1_000.0, 3_000.0, 7_000.0):
        loudest = log_mel(tone(frequency), SPEC).argmax(axis=1)
        nearest = np.abs(edges - librosa.hz_to_mel(frequency)).argmin()
        assert (np.abs(loudest - nearest) <= 1).all()


def test_log_mel_frame_does_not_depend_on_its_surroundings() -> None:
    """A frame is the same alone and between others, bit for bit."""
    samples = noise(16_000)
    frames = log_mel(samples, SPEC)

    for index in (0, 5, len(frames) - 1):
        start = index * SPEC.hop_length
        alone = log_mel(samples[start : start + SPEC.n_fft], SPEC)
        np.testing.assert_array_equal(alone[0], frames[index])


@pytest.mark.parametrize(
    ("source_rate", "fmax", "held", "wanted", "rate"),
    [
        (8_000, 8_000.0, "4", "8", 16_000),
        (11_025, 8_000.0, "5.5125", "8", 16_000),
        (15_999, 8_000.0, "7.9995", "8", 16_000),
        (8_000, 6_000.0, "4", "6", 12_000),
        # Nothing above half the model's own rate comes out of its filters.
        (8_000, 20_000.0, "4", "8", 16_000),
    ],
)
def test_lost_band_is_what_a_rate_cannot_hold(
    source_rate: int, fmax: float, held: str, wanted: str, rate: int
) -> None:
    """Half of the rate is too little; the rate that would do is named."""
    assert lost_band(source_rate, FeatureSpec(fmax=fmax)) == (
        f"{source_rate} Hz holds nothing above {held} kHz, the model listens up to {wanted} kHz; "
        f"use a source of {rate} Hz or more"
    )


@pytest.mark.parametrize(("source_rate", "fmax"), [(16_000, 8_000.0), (8_000, 4_000.0)])
def test_lost_band_is_empty_where_nothing_is_lost(source_rate: int, fmax: float) -> None:
    """A source as fast as needed, or faster, holds all."""
    assert lost_band(source_rate, FeatureSpec(fmax=fmax)) == ""
    assert lost_band(3 * source_rate, FeatureSpec(fmax=fmax)) == ""
