"""Finds differences from normal sound and describes them in words; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_closing
from scipy.signal import butter, hilbert, sosfiltfilt

from edgeasd.common.types import Float32Array, Float64Array
from edgeasd.detect.features import FeatureSpec, hz_to_mel, mel_to_hz
from edgeasd.detect.model.spectrum import NormalSpectrum, peak_level

_LEAST_EXCESS_DB = 2.0
"""Smallest difference that is reported; people hear no smaller one."""
_LEAST_DEVIATIONS = 3.0
"""Smallest difference in units of the spread of normal sound."""
_MOST_FINDINGS = 3
_LEAST_PART = 1 / 3
"""Share of the strongest finding's decibels below which a finding is left out."""
_TONE_SHARE = 0.5
"""Share of a band's power in its strongest line from which the band is called a tone."""
_TONE_WIDTH_HZ = 16.0
_ENVELOPE_HZ = 4000.0
_REPETITION_HZ = (1.0, 200.0)
_LEAST_BAND_HZ = 20.0
_MULTIPLE = 0.8
"""A peak counts as high as the highest from this share of it: its multiples are about as high."""
_IMPULSIVE_KURTOSIS = 5.0
"""Kurtosis from which an envelope is impulsive; that of steady noise is 3.2, of a sine 1.5."""
_REPETITION_STRENGTH = 0.25
"""Autocorrelation from which an envelope repeats; for a second of noise it stays below 0.1."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A range of frequencies whose level is not normal.

    Attributes:
        low_hz: Lower edge of the range.
        high_hz: Upper edge of the range.
        excess_db: Largest difference from the level of normal sound; negative if quieter.
        tone_hz: Frequency of the line that holds most of the power; `None` for noise.
        rate_hz: How often a second the sound repeats; `None` if it does not.
        impulsive: Whether the sound comes in impacts rather than in waves.
        peaks_only: Whether only the loudest moments differ.
    """

    low_hz: float
    high_hz: float
    excess_db: float
    tone_hz: float | None = None
    rate_hz: float | None = None
    impulsive: bool = False
    peaks_only: bool = False

    def __str__(self) -> str:
        side = "above" if self.excess_db > 0 else "below"
        amount = f"{abs(self.excess_db):.0f} dB {side} normal"
        amount += " in its loudest moments" if self.peaks_only else ""
        if self.tone_hz is not None:
            text = f"a tone at {hertz(self.tone_hz)}, {amount}"
        else:
            text = f"noise from {hertz(self.low_hz)} to {hertz(self.high_hz)}, {amount}"
        if self.rate_hz is not None:
            kind = "in impacts" if self.impulsive else "rising and falling"
            text += f", {kind}, {float(f'{self.rate_hz:.2g}'):g} a second"
        return text


def find_differences(
    frames: Float32Array,
    normal: NormalSpectrum,
    share: Float64Array,
    samples: Float32Array,
    spec: FeatureSpec,
) -> list[Finding]:
    """Return where the spectrum differs from normal, the largest share first; at most three.

    Args:
        frames: Log-mel of the sound, shape ``(n_frames, n_mels)``, dB.
        normal: Spectrum of normal sound.
        share: Share of each mel bin in the score, shape ``(n_mels,)``.
        samples: Samples of the sound, shape ``(n_samples,)``.
        spec: Frame geometry.
    """
    excess = frames.mean(axis=0, dtype=np.float64) - normal.level_db
    in_peaks = peak_level(frames) - normal.peak_db
    told = np.maximum(_LEAST_EXCESS_DB, _LEAST_DEVIATIONS * normal.spread_db)
    found: list[tuple[float, Finding]] = []
    for first, end in _stretches((excess >= told) | (in_peaks >= told)):
        peaks_only = bool((excess < told)[first:end].all())
        low, high = _loudest(in_peaks if peaks_only else excess, first, end)
        finding = _finding(in_peaks if peaks_only else excess, low, high, spec)
        finding = _with_character(finding, samples, spec.sample_rate)
        found.append((float(share[low:high].sum()), replace(finding, peaks_only=peaks_only)))
    for first, end in _stretches(-excess >= told):
        low, high = _loudest(-excess, first, end)
        found.append((float(share[low:high].sum()), _finding(excess, low, high, spec)))
    largest = max((abs(one.excess_db) for _, one in found), default=0.0)
    found = [pair for pair in found if abs(pair[1].excess_db) >= _LEAST_PART * largest]
    found.sort(key=lambda pair: -pair[0])
    return [finding for _, finding in found[:_MOST_FINDINGS]]


def bin_edges_hz(spec: FeatureSpec) -> Float64Array:
    """Return the borders between mel bins, shape ``(n_mels + 1,)``, hertz."""
    low, high = hz_to_mel(np.array([spec.fmin, spec.fmax]))
    step = (high - low) / (spec.n_mels + 1)
    return mel_to_hz(low + step * (np.arange(spec.n_mels + 1) + 0.5))


def hertz(frequency: float) -> str:
    """Return *frequency* in words, for example ``850 Hz`` or ``3.1 kHz``."""
    rounded = float(f"{frequency:.2g}")
    return f"{rounded / 1000:.1f} kHz" if rounded >= 1000 else f"{rounded:.0f} Hz"  # noqa: PLR2004


def _with_character(finding: Finding, samples: Float32Array, sample_rate: int) -> Finding:
    """Return *finding* with tone, repetition and impacts, taken from all sound in its band."""
    band = (finding.low_hz, finding.high_hz)
    envelope, rate = _envelope(samples, sample_rate, *band)
    return replace(
        finding,
        tone_hz=_tone(samples, sample_rate, *band),
        rate_hz=_repetition(envelope, rate),
        impulsive=_kurtosis(envelope) >= _IMPULSIVE_KURTOSIS,
    )


def _stretches(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first bin and end of each run of true values; gaps of two bins are closed."""
    closed = binary_closing(np.pad(mask, 2), np.ones(3, bool))[2:-2]
    steps = np.flatnonzero(np.diff(np.concatenate([[0], closed.astype(np.int8), [0]]))).tolist()
    return list(zip(steps[::2], steps[1::2], strict=True))


def _finding(differences: Float64Array, low: int, high: int, spec: FeatureSpec) -> Finding:
    """Return the finding of the mel bins from *low* to before *high*."""
    edges = bin_edges_hz(spec)
    strongest = low + int(np.argmax(np.abs(differences[low:high])))
    return Finding(float(edges[low]), float(edges[high]), float(differences[strongest]))


def _loudest(excess: Float64Array, first: int, end: int) -> tuple[int, int]:
    """Return the part around the peak where the excess is at least half of that at the peak."""
    peak = first + int(np.argmax(excess[first:end]))
    low = np.flatnonzero(excess[:peak] < excess[peak] / 2.0)
    high = np.flatnonzero(excess[peak:] < excess[peak] / 2.0)
    return (
        max(first, int(low[-1]) + 1 if len(low) else 0),
        min(end, peak + int(high[0]) if len(high) else end),
    )


def _tone(samples: Float32Array, sample_rate: int, low: float, high: float) -> float | None:
    """Return the frequency of the line that holds most of the power of a band, if one does."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1.0 / sample_rate)
    inside = (frequency >= low) & (frequency < high)
    if not inside.any():
        return None
    peak = float(frequency[inside][np.argmax(power[inside])])
    line = np.abs(frequency - peak) <= _TONE_WIDTH_HZ / 2.0
    share = power[inside & line].sum() / max(power[inside].sum(), 1e-300)
    # In a band hardly wider than a line, any noise would count as a line.
    is_line = high - low > 2.0 * _TONE_WIDTH_HZ and share >= _TONE_SHARE
    return peak if is_line else None


def _envelope(
    samples: Float32Array, sample_rate: int, low: float, high: float
) -> tuple[Float64Array, float]:
    """Return the envelope of a band with its mean removed, and its sample rate in hertz."""
    band = [max(low, _LEAST_BAND_HZ), min(high, 0.98 * sample_rate / 2.0)]
    sos = butter(2, band, "bandpass", fs=sample_rate, output="sos")
    envelope = np.abs(hilbert(sosfiltfilt(sos, samples)))
    length = max(1, round(sample_rate / _ENVELOPE_HZ))
    n_values = len(envelope) // length
    values: Float64Array = envelope[: n_values * length].reshape(n_values, length).mean(axis=1)
    return values - values.mean(), sample_rate / length


def _repetition(envelope: Float64Array, rate: float) -> float | None:
    """Return how often a second *envelope* repeats, by the highest peak of its autocorrelation.

    Args:
        envelope: Values without their mean, shape ``(n_values,)``.
        rate: Values a second.

    Returns:
        Repetitions a second; `None` if the envelope does not repeat.
    """
    n_values = len(envelope)
    power = np.abs(np.fft.rfft(envelope, 2 * n_values)) ** 2
    correlation = np.fft.irfft(power)[:n_values] / np.arange(n_values, 0, -1)
    if correlation[0] <= 0.0:
        return None
    correlation /= correlation[0]
    shortest, longest = round(rate / _REPETITION_HZ[1]), round(rate / _REPETITION_HZ[0])
    below_zero = np.flatnonzero(correlation < 0.0)
    if len(below_zero) == 0:
        return None
    # Noise makes small peaks on the slope that falls from lag zero; a period comes later.
    shortest = max(shortest, int(below_zero[0]))
    near = correlation[shortest - 1 : min(longest, n_values // 2) + 1]
    is_peak = (near[1:-1] >= near[:-2]) & (near[1:-1] >= near[2:])
    peaks = shortest + np.flatnonzero(is_peak & (near[1:-1] >= _REPETITION_STRENGTH))
    if len(peaks) == 0:
        return None
    # The shortest lag among those nearly as high as the highest: the others are its multiples.
    lag = int(peaks[correlation[peaks] >= _MULTIPLE * correlation[peaks].max()][0])
    # Noise also makes small peaks on the slope that rises to it.
    lag += int(np.argmax(correlation[lag : min(lag + lag // 4 + 1, n_values - 1)]))
    before, at, after = correlation[lag - 1 : lag + 2]
    # Vertex of the parabola through three values, because one lag is 5 % of a period at 200 Hz.
    return float(rate / (lag + 0.5 * (before - after) / min(before - 2.0 * at + after, -1e-12)))


def _kurtosis(values: Float64Array) -> float:
    """Return the fourth moment of *values*, whose mean is 0, over the square of the second."""
    return float(np.mean(values**4) / max(np.mean(values**2) ** 2, 1e-300))
