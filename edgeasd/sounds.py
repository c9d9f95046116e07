"""Recordings given on the command line, as streams of sound at a model's rate."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from edgeasd.capture.resampler import Resampler
from edgeasd.capture.wavfile import WavFile
from edgeasd.errors import AudioFileError
from edgeasd.stream import AudioBlock

_SUFFIXES = (".wav", ".flac")
_CLIP_S = 60.0
"""Shorter recordings of one folder are pieces of a longer one, as ``edgeasd record`` cuts it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Sound without a gap: one file, or the clips of a folder one after the other.

    Attributes:
        paths: The files.
        duration_s: Seconds.
    """

    paths: tuple[Path, ...]
    duration_s: float


def find_recordings(paths: Sequence[Path]) -> list[Recording]:
    """Return the recordings that *paths* name; of folders all WAV and FLAC files in them.

    Raises:
        AudioFileError: If there is none, or one cannot be read.
    """
    recordings: list[Recording] = []
    for path in dict.fromkeys(itertools.chain.from_iterable(map(_files_of, paths))):
        duration_s = _duration_s(path)
        last = recordings[-1] if recordings else None
        if last is not None and _belongs(last, path, duration_s):
            recordings[-1] = Recording((*last.paths, path), last.duration_s + duration_s)
        else:
            recordings.append(Recording((path,), duration_s))
    return recordings


def blocks_of(recording: Recording, channel: int, sample_rate: int) -> Iterator[AudioBlock]:
    """Yield the sound of *recording*.

    Args:
        recording: What to read.
        channel: Of each file, counted from 0.
        sample_rate: Of the blocks, hertz.

    Raises:
        AudioFileError: If a file cannot be read.
    """
    position = 0
    for path in recording.paths:
        source = WavFile(path, channel)
        resampler = Resampler(source.sample_rate, sample_rate)
        try:
            while (block := source.read(0.0)) is not None:
                samples = resampler.process(block).samples
                yield AudioBlock(samples, position)
                position += len(samples)
        finally:
            source.close()
        samples = resampler.flush().samples
        yield AudioBlock(samples, position)
        position += len(samples)


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


def _duration_s(path: Path) -> float:
    # Says what is wrong with a file that cannot be read.
    WavFile(path).close()
    info = soundfile.info(path)
    return float(info.frames / info.samplerate)


def _belongs(last: Recording, path: Path, duration_s: float) -> bool:
    is_clip = duration_s < _CLIP_S and last.duration_s / len(last.paths) < _CLIP_S
    return is_clip and last.paths[-1].parent == path.parent
