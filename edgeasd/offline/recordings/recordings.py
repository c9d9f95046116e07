"""Recordings named on the command line, as streams of sound at a model's rate."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgeasd.capture.recording.decoder import Decoder
from edgeasd.capture.recording.wavfile import WavFile
from edgeasd.common.errors import AudioFileError, EdgeasdError
from edgeasd.common.resampler import Resampler
from edgeasd.common.types import AudioBlock, LogMelFrames
from edgeasd.detect.features import FeatureSpec, LogMel, lost_band
from edgeasd.detect.signal import SignalMeter, without_flat
from edgeasd.models.cache import open_model
from edgeasd.offline.recordings.folder import follows

_SUFFIXES = (".wav", ".flac")
_CLIP_S = 60.0
"""Shorter files of one folder are joined into one recording: a score may rest on several."""
_MOST_NAMED = 20
_FEW_BITS = 8

Progress = Callable[[float], None]
"""Takes the seconds of sound that were read since the last call."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file, or the clips of a folder in order.

    Attributes:
        paths: Paths of the files.
        duration_s: Total length, seconds.
        sample_rate: Lowest sample rate of the files, hertz.
        bits: Lowest number of bits a sample of the files.
    """

    paths: tuple[Path, ...]
    duration_s: float
    sample_rate: int
    bits: int

    def followed_by(self, other: Recording) -> Recording:
        """Return this recording with the files of *other* after its own."""
        return Recording(
            (*self.paths, *other.paths),
            self.duration_s + other.duration_s,
            min(self.sample_rate, other.sample_rate),
            min(self.bits, other.bits),
        )


def find_recordings(paths: Sequence[Path], channel: int = 0) -> list[Recording]:
    """Return the recordings at *paths*: files, and all WAV and FLAC files in folders.

    Raises:
        AudioFileError: If there is no file or some cannot be read; the message names all of them.
    """
    recordings: list[Recording] = []
    errors: list[AudioFileError] = []
    for path in dict.fromkeys(itertools.chain.from_iterable(map(_files_of, paths))):
        try:
            found = look_at(path, channel)
        except AudioFileError as exc:
            errors.append(exc)
            continue
        if recordings and _belongs(recordings[-1], found):
            recordings[-1] = recordings[-1].followed_by(found)
        else:
            recordings.append(found)
    if errors:
        more = len(errors) - _MOST_NAMED
        named = "; also ".join(map(str, errors[:_MOST_NAMED]))
        raise AudioFileError(named + (f"; and {more} more cannot be used" if more > 0 else ""))
    return recordings


def blocks_of(recording: Recording, channel: int, sample_rate: int) -> Iterator[AudioBlock]:
    """Yield the sound of *recording*, with a gap between files that do not follow each other.

    Only clips made by ``edgeasd record`` say which clip they follow.  Between others a gap keeps
    the seam from being taken for sound of the machine.

    Args:
        recording: The recording to read.
        channel: Channel of each file, counted from 0.
        sample_rate: Sample rate of the blocks, hertz.

    Raises:
        AudioFileError: If a file cannot be read.
    """
    position = n_read = rate = 0
    before = Path()
    resampler: Resampler | None = None
    for path in recording.paths:
        with closing(WavFile(path, channel)) as source:
            continues = follows(before, source.comment) and source.sample_rate == rate
            if resampler is not None and not continues:
                samples = resampler.flush().samples
                yield AudioBlock(samples, position)
                position += len(samples) + 1
            if resampler is None or not continues:
                rate, n_read = source.sample_rate, 0
                resampler = Resampler(rate, sample_rate)
            n_whole = n_read + round(source.duration_s * rate)
            while (block := source.read(0.0)) is not None:
                samples = resampler.process(AudioBlock(block.samples, n_read)).samples
                n_read += len(block.samples)
                yield AudioBlock(samples, position)
                position += len(samples)
        before = path if n_read == n_whole else Path()
    if resampler is not None:
        yield AudioBlock(resampler.flush().samples, position)


def frames_without_flat(
    blocks: Iterable[AudioBlock], spec: FeatureSpec, meter: SignalMeter
) -> Iterator[LogMelFrames]:
    """Yield the log-mel frames of *blocks*, but for flat sound; none reaches across a gap.

    Args:
        blocks: Sound at the rate of *spec*.
        spec: Frame geometry.
        meter: A new meter for that rate; it tells in the end what was left out.
    """
    log_mel = LogMel(spec)
    end = 0
    for block in without_flat(blocks, meter):
        if block.first_sample != end:
            log_mel.reset()
        end = block.first_sample + len(block.samples)
        yield log_mel.process(block)


def limitations(recordings: Sequence[Recording], features: FeatureSpec) -> list[str]:
    """Return warnings about sound that a model listens to and *recordings* cannot hold."""
    counts: dict[str, list[Recording]] = {}
    for one in recordings:
        for words in filter(None, (lost_band(one.sample_rate, features), lost_bits(one.bits))):
            counts.setdefault(words, []).append(one)
    return [
        f"warning: {words} ({found[0].paths[0].name}"
        + (f" and {len(found) - 1} more)" if found[1:] else ")")
        for words, found in counts.items()
    ]


def features_for(model: Path) -> FeatureSpec:
    """Return the frame geometry of the model file, or that of ``edgeasd learn`` if it is absent."""
    try:
        return open_model(model).document.features
    except EdgeasdError:
        return FeatureSpec()


def digest(path: Path) -> str:
    """Return the identifier of a recording: the start of its SHA-256, hexadecimal."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            sha256.update(piece)
    return sha256.hexdigest()[:16]


def lost_bits(bits: int) -> str:
    """Return in words what samples of *bits* bits cannot hold; empty if they are enough."""
    if bits > _FEW_BITS:
        return ""
    return f"{bits} bits a sample hide all sound below -50 dBFS; record with 16 bits"


def _files_of(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path.resolve()]
        found = [one.resolve() for one in _inside(path) if one.suffix.lower() in _SUFFIXES]
    except PermissionError as exc:
        raise AudioFileError(
            f"{exc.filename}: cannot be read ({exc.strerror}); check that this user may read it"
        ) from exc
    if not found:
        raise AudioFileError(f"{path}: holds no WAV or FLAC file; record some normal sound first")
    return sorted(found)


def _inside(folder: Path) -> Iterator[Path]:
    """Yield the files below *folder*, except hidden ones, which may be incomplete.

    Raises:
        OSError: If a folder cannot be read, so that its sound is not left out silently.
    """
    for where, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(where, name) for name in names if not name.startswith(".")):
            if _is_file(path):
                yield path


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:  # `Path.is_file` raises it up to Python 3.13 only
        raise
    except OSError:  # a link to nowhere
        return False


def _raise(error: OSError) -> None:
    raise error


def look_at(path: Path, channel: int) -> Recording:
    """Return the recording that the header of a file describes.

    Raises:
        AudioFileError: If the file cannot be read.
    """
    with closing(Decoder(path, channel)) as file:
        return Recording((path,), file.duration_s, file.sample_rate, file.bits)


def _belongs(last: Recording, found: Recording) -> bool:
    is_clip = found.duration_s < _CLIP_S and last.duration_s / len(last.paths) < _CLIP_S
    return is_clip and last.paths[-1].parent == found.paths[0].parent
