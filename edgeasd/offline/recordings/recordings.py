"""Recordings given on the command line, as streams of sound at a model's rate."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgeasd.capture.recording.decoder import Decoder
from edgeasd.capture.recording.wavfile import WavFile
from edgeasd.capture.resampler import Resampler
from edgeasd.common.errors import AudioFileError, EdgeasdError
from edgeasd.common.types import AudioBlock
from edgeasd.detect.features import FeatureSpec, lost_band
from edgeasd.models.cache import open_model
from edgeasd.offline.recordings.folder import follows

_SUFFIXES = (".wav", ".flac")
_CLIP_S = 60.0
"""Shorter recordings of one folder are pieces of one, of which scores may rest on several."""
_MOST_S = 86_400.0
"""What is learned from is held in memory as embeddings, 7 to 11 MB an hour."""
_MOST_NAMED = 20
_FEW_BITS = 8

Progress = Callable[[float], None]
"""Takes the seconds of sound that were read since the last call."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file, or the clips of a folder one after the other.

    Attributes:
        paths: The files.
        duration_s: Seconds.
        sample_rate: The least of the files, hertz.
        bits: The least of the files.
    """

    paths: tuple[Path, ...]
    duration_s: float
    sample_rate: int
    bits: int

    def joined(self, other: Recording) -> Recording:
        """Return this one and *other* after it."""
        return Recording(
            (*self.paths, *other.paths),
            self.duration_s + other.duration_s,
            min(self.sample_rate, other.sample_rate),
            min(self.bits, other.bits),
        )


def find_recordings(paths: Sequence[Path], channel: int = 0) -> list[Recording]:
    """Return the recordings that *paths* name; of folders all WAV and FLAC files in them.

    Raises:
        AudioFileError: If there is none, or any cannot be read; names all that cannot.
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
            recordings[-1] = recordings[-1].joined(found)
        else:
            recordings.append(found)
    if errors:
        more = len(errors) - _MOST_NAMED
        named = "; also ".join(map(str, errors[:_MOST_NAMED]))
        raise AudioFileError(named + (f"; and {more} more cannot be used" if more > 0 else ""))
    return recordings


def blocks_of(recording: Recording, channel: int, sample_rate: int) -> Iterator[AudioBlock]:
    """Yield the sound of *recording*, with a gap where one of its files does not follow another.

    Only clips that ``edgeasd record`` cut say what they follow.  Of others nobody knows, and a seam
    is no sound of the machine.

    Args:
        recording: What to read.
        channel: Of each file, counted from 0.
        sample_rate: Of the blocks, hertz.

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


def refuse_too_much(recordings: Sequence[Recording]) -> None:
    """Check that what is to be learned from fits into the memory.

    Raises:
        AudioFileError: If not.
    """
    refuse_longer(sum(one.duration_s for one in recordings))


def refuse_longer(duration_s: float) -> None:
    """Check the seconds of sound to be learned from, or already read: a header may say anything.

    Raises:
        AudioFileError: If it is too long.
    """
    if duration_s > _MOST_S:
        raise AudioFileError(
            f"normal sound={duration_s / 3600.0:.0f} h must be at most {_MOST_S / 3600.0:.0f} h; "
            "leave some files out"
        )


def shortcomings(recordings: Sequence[Recording], features: FeatureSpec) -> list[str]:
    """Return in words what *recordings* cannot hold of what a model listens to."""
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
    """Return what the model file *model* listens to; without it, what ``edgeasd learn`` makes."""
    try:
        return open_model(model).document.features
    except EdgeasdError:
        return FeatureSpec()


def lost_bits(bits: int) -> str:
    """Return in words what samples of so many *bits* cannot hold; empty if nothing."""
    if bits > _FEW_BITS:
        return ""
    return f"{bits} bits a sample hide all that is below -50 dBFS; record with 16"


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
    """Yield the files below *folder*; what is hidden was left by other programs, or half written.

    Raises:
        OSError: If a folder cannot be read: its sound would be missed without a word.
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
    """Return what the header of a file says.

    Raises:
        AudioFileError: If it cannot be read.
    """
    with closing(Decoder(path, channel)) as file:
        return Recording((path,), file.duration_s, file.sample_rate, file.bits)


def _belongs(last: Recording, found: Recording) -> bool:
    is_clip = found.duration_s < _CLIP_S and last.duration_s / len(last.paths) < _CLIP_S
    return is_clip and last.paths[-1].parent == found.paths[0].parent
