"""Log-mel frames, offline and streamed: the only implementation in the project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from edgeasd.common.documents.reading import at_least, between
from edgeasd.common.types import AudioBlock, Float32Array, Float64Array, LogMelFrames

_HZ_PER_MEL = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27.0

_FRAMES_AT_ONCE = 8
"""As many frames as the pipeline hands on together.  Eight doubles also fill the longest vector of
any processor: no value is computed in the remainder of a loop, where a compiler may have arranged
the arithmetic otherwise."""
_N_GROUPS = 4
"""Groups of mel filters that are padded to the same width.  More groups waste less on padding, but
each costs a call of numpy; 3 to 6 took the same time."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Geometry of the log-mel frames; stored in the model file.

    The defaults are those of Cai et al. (DCASE 2021), section 3, and of the DCASE baselines.
    """

    sample_rate: Annotated[int, between(1000, 400_000)] = 16_000
    """Samples per second, hertz."""
    n_fft: Annotated[int, between(2, 65_536)] = 1024
    """Samples in a frame."""
    hop_length: Annotated[int, between(1, 65_536)] = 512
    """Samples between the starts of two frames; at most n_fft.  All frames of a second of sound
    together must hold at most 16 000 000 samples."""
    n_mels: Annotated[int, between(1, 1024)] = 128
    """Number of mel bins, which is the last axis of the graph's input; n_mels times n_fft must be
    at most 4 194 304."""
    fmin: Annotated[float, at_least(0.0)] = 0.0
    """Lower edge of the lowest mel bin, hertz."""
    fmax: Annotated[float, at_least(1.0)] = 8_000.0
    """Upper edge of the highest mel bin, hertz; at least 1 more than fmin, at most half of
    sample_rate."""
    floor: Annotated[float, between(1e-30, 1.0)] = 1e-10
    """Power below which the logarithm is cut, relative to full scale: 1e-10 is -100 dB.  Absolute,
    so that a frame never depends on the sound around it."""

    @property
    def frames_per_s(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    def n_frames(self, n_samples: int) -> int:
        """Return the number of whole frames in *n_samples* samples."""
        if n_samples < self.n_fft:
            return 0
        return 1 + (n_samples - self.n_fft) // self.hop_length

    def n_samples(self, n_frames: int) -> int:
        """Return the number of samples behind *n_frames* consecutive frames."""
        return (n_frames - 1) * self.hop_length + self.n_fft if n_frames else 0


def lost_band(source_rate: int, spec: FeatureSpec) -> str:
    """Return in words which frequencies of a model sound at *source_rate* cannot hold.

    The text is empty if it holds all of them.  After resampling, missing frequencies are silent,
    which no machine is.
    """
    held, wanted = source_rate / 2.0, min(spec.fmax, spec.sample_rate / 2.0)
    if held >= wanted:
        return ""
    return (
        f"{source_rate} Hz holds nothing above {held / 1000.0:g} kHz, the model listens up to "
        f"{wanted / 1000.0:g} kHz; use a source of {2.0 * wanted:.0f} Hz or more"
    )


def hz_to_mel(frequency: Float64Array) -> Float64Array:
    """Return *frequency*, in hertz, on the mel scale of Slaney.

    References:
        Slaney (1998), Auditory Toolbox, version 2: linear below 1 kHz, logarithmic above.
    """
    linear = frequency / _HZ_PER_MEL
    above = np.maximum(frequency, _LOG_START_HZ) / _LOG_START_HZ
    return np.where(
        frequency < _LOG_START_HZ, linear, _LOG_START_HZ / _HZ_PER_MEL + np.log(above) / _LOG_STEP
    )


def mel_to_hz(mel: Float64Array) -> Float64Array:
    """Return the frequency in hertz of *mel*; the inverse of `hz_to_mel`."""
    log_start = _LOG_START_HZ / _HZ_PER_MEL
    return np.where(
        mel < log_start,
        mel * _HZ_PER_MEL,
        _LOG_START_HZ * np.exp(_LOG_STEP * (np.maximum(mel, log_start) - log_start)),
    )


def mel_filter_bank(spec: FeatureSpec) -> Float64Array:
    """Return the triangular mel filters, each of unit area in hertz (Slaney's normalisation).

    Returns:
        Shape ``(n_mels, n_fft // 2 + 1)``.

    References:
        Slaney (1998), Auditory Toolbox, version 2.
    """
    lowest, highest = hz_to_mel(np.array([spec.fmin, spec.fmax]))
    edges = mel_to_hz(np.linspace(lowest, highest, spec.n_mels + 2))
    frequency = np.fft.rfftfreq(spec.n_fft, 1.0 / spec.sample_rate)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequency - low) / (centre - low)
    falling = (high - frequency) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles * (2.0 / (high - low))


class FrameTransform:
    """Turns frames of samples into log-mel rows; no row depends on how many are made at once.

    The arithmetic is float64: a loud pure tone leaves true values near the floor in the other
    bins, where the rounding noise of a float32 transform would stand instead.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        # Periodic, as in librosa.
        self._taper = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(spec.n_fft) / spec.n_fft)
        self._mel_power = _MelPower(mel_filter_bank(spec))

    def __call__(self, samples: Float32Array) -> Float32Array:
        """Return the log-mel frames of *samples*, without padding.

        Args:
            samples: Shape ``(n_samples,)``, full scale is +-1.0.

        Returns:
            Shape ``(n_frames, n_mels)``, dB re full-scale power, where ``n_frames`` is
            ``1 + (n_samples - n_fft) // hop_length``, or 0 for a shorter input.

        Raises:
            ValueError: If *samples* is not one-dimensional.
        """
        if samples.ndim != 1:
            raise ValueError(f"samples.ndim={samples.ndim} must be 1")
        n_frames = self.spec.n_frames(len(samples))
        values = np.empty((n_frames, self.spec.n_mels), np.float32)
        (stride,) = samples.strides
        # A third of the time that sliding_window_view takes, which counts where frames are few.
        frames = np.lib.stride_tricks.as_strided(
            samples,
            (n_frames, self.spec.n_fft),
            (self.spec.hop_length * stride, stride),
            writeable=False,
        )
        for start in range(0, n_frames, _FRAMES_AT_ONCE):
            some = frames[start : start + _FRAMES_AT_ONCE]
            values[start : start + len(some)] = self._transform(some)
        return values

    def _transform(self, frames: Float32Array) -> Float64Array:
        """Return the rows of at most `_FRAMES_AT_ONCE` *frames*, shape ``(n_frames, n_fft)``."""
        # Silence takes the place of missing frames.
        tapered = np.zeros((_FRAMES_AT_ONCE, self.spec.n_fft))
        np.multiply(frames, self._taper, out=tapered[: len(frames)])
        power = self._mel_power(np.fft.rfft(tapered))
        np.maximum(power, self.spec.floor, out=power)
        rows: Float64Array = 10.0 * np.log10(power, out=power).T[: len(frames)]
        return rows


class _MelPower:
    """Applies a mel filter bank to the spectra of `_FRAMES_AT_ONCE` frames.

    Only about 2 % of the bank is not zero, so that a product of matrices would mostly multiply by
    zero, and BLAS starts threads and rounds a row differently beside other rows.  Here each filter
    adds up its own terms in the order of their frequency, the square of the real part before that
    of the imaginary part.

    Args:
        bank: Shape ``(n_mels, n_fft // 2 + 1)``; the weights of a filter that are not zero must be
            next to each other.
    """

    def __init__(self, bank: Float64Array) -> None:
        self._n_mels = len(bank)
        bank = np.repeat(bank, 2, axis=1)
        places, weights = [], []
        # The terms and the filters of each group, and the shape of its terms.
        self._groups: list[tuple[slice, slice, tuple[int, int, int]]] = []
        end = 0
        for mels in np.array_split(np.arange(self._n_mels), min(_N_GROUPS, self._n_mels)):
            filters = bank[mels]
            n_terms = int(np.count_nonzero(filters, axis=1).max())
            first = np.minimum((filters != 0.0).argmax(axis=1), bank.shape[1] - n_terms)
            place = first + np.arange(n_terms)[:, None]
            places.append(place.ravel())
            weights.append(filters[np.arange(len(mels)), place].ravel())
            start, end = end, end + place.size
            shape = (n_terms, len(mels), _FRAMES_AT_ONCE)
            self._groups.append((slice(start, end), slice(mels[0], mels[-1] + 1), shape))
        self._places = np.concatenate(places)
        self._weights = np.repeat(np.concatenate(weights)[:, None], _FRAMES_AT_ONCE, axis=1)

    def __call__(self, spectra: npt.NDArray[np.complex128]) -> Float64Array:
        """Return the power in each mel bin, shape ``(n_mels, _FRAMES_AT_ONCE)``.

        Args:
            spectra: Shape ``(_FRAMES_AT_ONCE, n_fft // 2 + 1)``; is overwritten.
        """
        parts = spectra.view(np.float64)
        squares = np.ascontiguousarray(np.square(parts, out=parts).T)
        terms = squares.take(self._places, axis=0)
        terms *= self._weights
        power = np.empty((self._n_mels, _FRAMES_AT_ONCE))
        for place, mels, shape in self._groups:
            terms[place].reshape(shape).sum(axis=0, out=power[mels])
        return power


def log_mel(samples: Float32Array, spec: FeatureSpec) -> Float32Array:
    """Return the log-mel frames of *samples*; see `FrameTransform` for shapes and errors."""
    return FrameTransform(spec)(samples)


class LogMel:
    """Streaming twin of `log_mel`; keeps the samples that the next frame needs."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._transform = FrameTransform(spec)
        self._tail: Float32Array | None = None
        self._first_sample = 0

    def process(self, block: AudioBlock) -> LogMelFrames:
        """Return the frames that end in *block*.

        Raises:
            ValueError: If *block* does not continue the block before it.
        """
        if self._tail is None:
            self._tail, self._first_sample = block.samples[:0], block.first_sample
        expected = self._first_sample + len(self._tail)
        if block.first_sample != expected:
            raise ValueError(f"first_sample={block.first_sample} must be {expected}")
        spec = self._transform.spec
        samples = np.concatenate((self._tail, block.samples))
        frames = LogMelFrames(self._transform(samples), self._first_sample)
        used = len(frames.values) * spec.hop_length
        self._tail = samples[used:].copy()
        self._first_sample += used
        return frames

    def reset(self) -> None:
        """Forget the stream; the next block starts a new one."""
        self._tail = None
