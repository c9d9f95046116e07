"""Tests of differences from normal sound in words: each is told for a sound made to have it."""

from __future__ import annotations

import numpy as np
import pytest

from edgeasd.common.types import Float32Array, Float64Array
from edgeasd.detect.features import FeatureSpec, log_mel
from edgeasd.detect.model.spectrum import normal_spectrum
from edgeasd.offline.explain.findings import Finding, bin_edges_hz, find_differences, hertz

SPEC = FeatureSpec()
RATE = SPEC.sample_rate
N_SAMPLES = 10 * RATE
SECONDS = np.arange(N_SAMPLES) / RATE


def steady_noise(seed: int) -> Float32Array:
    """Return ten seconds of noise at -40 dBFS."""
    return np.random.default_rng(seed).normal(0.0, 0.01, N_SAMPLES).astype(np.float32)


NORMAL = normal_spectrum([log_mel(steady_noise(seed), SPEC) for seed in range(100, 108)])


def told(extra: object, noise: Float32Array | None = None) -> list[Finding]:
    """Return what is found in noise with *extra* added."""
    samples = (steady_noise(1) if noise is None else noise) + np.asarray(extra, np.float32)
    return find_differences(log_mel(samples, SPEC), NORMAL, np.ones(SPEC.n_mels), samples, SPEC)


def in_band(low: float, high: float, gain: Float64Array | float = 1.0) -> Float32Array:
    """Return noise between two frequencies, 10 dB above the steady one there, times *gain*."""
    spectrum = np.fft.rfft(np.random.default_rng(7).normal(0.0, 0.01 * 10**0.5, N_SAMPLES))
    frequency = np.fft.rfftfreq(N_SAMPLES, 1 / RATE)
    spectrum[(frequency < low) | (frequency > high)] = 0.0
    return np.asarray(np.fft.irfft(spectrum) * gain, np.float32)


def test_normal_sound_has_no_findings() -> None:
    """Nothing is told of noise like that which was learned."""
    assert told(0.0) == []


def test_tone_is_told_with_its_frequency() -> None:
    """A sine of 3.1 kHz is a tone at 3.1 kHz, and steady."""
    (finding,) = told(0.02 * np.sin(2 * np.pi * 3100 * SECONDS))

    assert finding.tone_hz == pytest.approx(3100, abs=1)
    assert finding.rate_hz is None
    assert str(finding).startswith("a tone at 3.1 kHz, ")


def test_noise_band_is_told_with_its_edges_and_level() -> None:
    """Noise ten times as strong between 2 and 4 kHz is told as such, and as steady."""
    (finding,) = told(in_band(2000, 4000))

    assert finding.tone_hz is None
    assert finding.rate_hz is None
    assert finding.low_hz == pytest.approx(2000, rel=0.08)
    assert finding.high_hz == pytest.approx(4000, rel=0.08)
    assert finding.excess_db == pytest.approx(10.4, abs=1.0)


@pytest.mark.parametrize("rate_hz", [3.0, 8.0, 25.0, 88.0])
def test_impacts_are_told_with_their_rate(rate_hz: float) -> None:
    """Short bursts of noise, so many a second, are impacts of that rate."""
    decay = np.exp(-((SECONDS * rate_hz) % 1.0) / rate_hz / 0.0015)

    (finding,) = told(in_band(1500, 6000, 6.0 * decay))

    assert finding.impulsive
    assert finding.peaks_only == (rate_hz < 5)
    assert finding.rate_hz == pytest.approx(rate_hz, rel=0.02)
    assert "in impacts" in str(finding)


@pytest.mark.parametrize("rate_hz", [2.0, 5.0])
def test_modulation_is_told_as_rising_and_falling(rate_hz: float) -> None:
    """Noise that swells and fades is no series of impacts."""
    (finding,) = told(in_band(1500, 6000, 2 + 1.8 * np.sin(2 * np.pi * rate_hz * SECONDS)))

    assert not finding.impulsive
    assert finding.rate_hz == pytest.approx(rate_hz, rel=0.05)
    assert "rising and falling" in str(finding)


def test_missing_band_is_told_as_below_normal() -> None:
    """Where sound is missing, nothing is said of tone or rate."""
    steady = steady_noise(1)
    spectrum = np.fft.rfft(steady)
    frequency = np.fft.rfftfreq(N_SAMPLES, 1 / RATE)
    spectrum[(frequency > 3000) & (frequency < 5000)] *= 0.1

    (finding,) = told(0.0, np.asarray(np.fft.irfft(spectrum), np.float32))

    assert finding.excess_db == pytest.approx(-20.0, abs=1.5)
    assert str(finding).endswith("below normal")


def test_findings_come_by_their_share_of_the_score() -> None:
    """What made most of the score comes first, however loud the rest is."""
    samples = steady_noise(1) + in_band(600, 900) + in_band(3000, 5000)
    share = np.where(bin_edges_hz(SPEC)[:-1] < 1000, 5.0, 0.1)

    found = find_differences(log_mel(samples, SPEC), NORMAL, share, samples, SPEC)

    assert [one.high_hz < 1000 for one in found] == [True, False]


@pytest.mark.parametrize(
    ("frequency", "text"),
    [(47.3, "47 Hz"), (850.0, "850 Hz"), (996.0, "1.0 kHz"), (3140.0, "3.1 kHz")],
)
def test_hertz_is_told_with_two_digits(frequency: float, text: str) -> None:
    """Frequencies are told as people say them."""
    assert hertz(frequency) == text
