"""``python -m tests.benchmarks.normal_operation CACHE``: hours of a fan in noise, as embeddings.

A machine runs without end: 10 s recordings of its propellers in random order, in noise of other
machines, random stretches of half a minute to two minutes each, and pink noise that never repeats.
The recordings repeat, as there are only a few minutes of them.

Of each section the training recordings make the streams that a model learns from and that may
calibrate it, the test recordings another to be listened to.  What is kept is what the model of
``edgeasd learn`` makes of each window, the mean of its log-mel: 256 ms in 512 bytes.
"""

from __future__ import annotations

import argparse
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from edgeasd.common.files.whole_file import whole_file
from edgeasd.common.types import AudioBlock, Float32Array, Float64Array
from edgeasd.detect.features import FeatureSpec, LogMel
from edgeasd.detect.windows import WindowSpec, slice_windows
from tests.conftest import find_data_folder

SECTIONS = ("00", "01", "02", "03")
FEATURES = FeatureSpec()
WINDOW = WindowSpec(n_frames=8, hop_frames=8, median_frames=1)
RATE = FEATURES.sample_rate
BEDS = ("ferry_tacoma", "compressor_run")
LEVEL_RMS = 0.02
SNRS_DB = (-14, -8, 0)
"""Of the machine over the noise; the first is the benchmark's."""
HOURS = {"learn": 1, "calibrate": 6, "operate": 54}
"""Of each stream; the first six of the last may calibrate as well."""

_PINK = 2**20
_PIECE_S = 600
_NAME = re.compile(r"section_(\d\d)_(train|test)_(normal|anomaly)_(.*)_w\d+\.flac")


def unit_rms(samples: Float64Array) -> Float64Array:
    """Return *samples* with a mean square of 1."""
    scaled: Float64Array = samples / np.sqrt(np.mean(np.square(samples)) + 1e-12)
    return scaled


def recordings(section: str, split: str, label: str) -> dict[str, list[Float64Array]]:
    """Return the 10 s clips of each recording, by its name."""
    found: dict[str, list[Float64Array]] = {}
    for path in sorted((find_data_folder() / "fan" / "machine").glob("*.flac")):
        match = _NAME.fullmatch(path.name)
        if match and match.groups()[:3] == (section, split, label):
            found.setdefault(match[4], []).append(unit_rms(soundfile.read(path)[0]))
    return found


def clips_of(section: str, stream: str) -> list[Float64Array]:
    """Return the clips of a stream; no recording is in two of them."""
    if stream == "operate":
        return list(chain.from_iterable(recordings(section, "test", "normal").values()))
    names = recordings(section, "train", "normal")
    first = {"learn": 0, "calibrate": 1}[stream]
    return list(chain.from_iterable(list(names.values())[first::2]))


class Noise:
    """Noise of other machines without end, of mean square 1."""

    def __init__(self, rng: np.random.Generator) -> None:
        folder = find_data_folder() / "fan" / "background"
        beds = [soundfile.read(folder / f"{name}.flac")[0] for name in BEDS]
        pink = _pink(rng)
        self._sources = [_stretches(rng, bed) for bed in beds] + [pink]
        self._rests = [np.empty(0) for _ in self._sources]

    def take(self, n_samples: int) -> Float64Array:
        """Return the next *n_samples*."""
        total = np.zeros(n_samples)
        for index, source in enumerate(self._sources):
            pieces = [self._rests[index]]
            while sum(map(len, pieces)) < n_samples:
                pieces.append(next(source))
            joined = np.concatenate(pieces)
            total += joined[:n_samples]
            self._rests[index] = joined[n_samples:]
        noise: Float64Array = total / np.sqrt(len(self._sources))
        return noise


def mix(clean: Float64Array, noise: Float64Array, snr_db: float) -> Float32Array:
    """Return a machine of mean square 1 in noise of mean square 1, at the benchmark's level."""
    gain = 10.0 ** (snr_db / 20.0)
    mixed = (gain * clean + noise) * (LEVEL_RMS / np.sqrt(1.0 + gain**2))
    # As a 16-bit recording.
    heard: Float32Array = (np.round(mixed.clip(-1.0, 1.0) * 32767.0) / 32768.0).astype(np.float32)
    return heard


def listen(
    clips: list[Float64Array], seed: int, n_seconds: int, snr_db: float = SNRS_DB[0]
) -> Iterator[Float32Array]:
    """Yield minutes of the machine in noise."""
    rng = np.random.default_rng(seed)
    noise = Noise(rng)
    for _ in range(0, n_seconds, _PIECE_S):
        chosen = rng.integers(len(clips), size=_PIECE_S // 10)
        clean = np.concatenate([clips[index][: 10 * RATE] for index in chosen])
        yield mix(clean, noise.take(len(clean)), snr_db)


def embeddings(pieces: Iterator[Float32Array]) -> Iterator[Float32Array]:
    """Yield the mean log-mel of each window of the stream that *pieces* make."""
    log_mel = LogMel(FEATURES)
    position = 0
    rest = np.empty((0, FEATURES.n_mels), np.float32)
    for samples in pieces:
        frames = log_mel.process(AudioBlock(samples, position)).values
        position += len(samples)
        frames = np.concatenate((rest, frames))
        windows = slice_windows(frames, WINDOW)
        yield windows.mean(axis=1)
        rest = frames[len(windows) * WINDOW.hop_frames :]


def load(cache: Path, section: str, stream: str, snr_db: int = SNRS_DB[0]) -> Float32Array:
    """Return the embeddings of a stream, shape ``(n_windows, n_mels)``."""
    parts = sorted(cache.glob(f"{_stem(section, stream, snr_db)}-[0-9][0-9][0-9].npy"))
    return np.concatenate([np.load(part) for part in parts])


def make(cache: Path, section: str, stream: str, hour: int, snr_db: int = SNRS_DB[0]) -> None:
    """Make an hour of a stream if it is not there yet; each has noise of its own."""
    path = cache / f"{_stem(section, stream, snr_db)}-{hour:03d}.npy"
    if path.exists():
        return
    seed = zlib.crc32(path.stem.encode())
    values = np.concatenate(list(embeddings(listen(clips_of(section, stream), seed, 3600, snr_db))))
    with whole_file(path) as file:
        np.save(file, values)
    print(path.name, len(values), flush=True)


def _stem(section: str, stream: str, snr_db: int) -> str:
    return f"{section}-{stream}" + ("" if snr_db == SNRS_DB[0] else f"{snr_db:+d}dB")


def _stretches(rng: np.random.Generator, bed: Float64Array) -> Iterator[Float64Array]:
    while True:
        length = int(rng.integers(30 * RATE, 120 * RATE))
        start = int(rng.integers(len(bed) - length))
        yield unit_rms(bed[start : start + length])


def _pink(rng: np.random.Generator) -> Iterator[Float64Array]:
    frequency = np.fft.rfftfreq(_PINK)
    frequency[0] = frequency[1]
    while True:
        spectrum = np.fft.rfft(rng.standard_normal(_PINK)) / np.sqrt(frequency)
        yield unit_rms(np.fft.irfft(spectrum, _PINK))


def main() -> None:
    """Make all streams, the hours in turn, so that it may be stopped at any time; goes on then."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path)
    parser.add_argument("--hours", type=int, default=HOURS["operate"], help="of operation")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    hours = {**HOURS, "operate": args.hours}
    for hour in range(max(hours.values())):
        for stream, n_hours in hours.items():
            for section in SECTIONS:
                if hour < n_hours:
                    make(args.cache, section, stream, hour)
    for snr_db in SNRS_DB[1:]:
        for stream in ("learn", "calibrate"):
            for hour in range(hours[stream]):
                for section in SECTIONS:
                    make(args.cache, section, stream, hour, snr_db)


if __name__ == "__main__":
    main()
