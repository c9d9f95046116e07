"""The folder of a machine's recordings, in the layout of DCASE Task 2 that the trainer reads.

The clips are ``FOLDER/train/section_<NN>_<domain>_train_normal_<NNNN>_<start>.flac``, with the time
of their start in UTC.  ``FOLDER/recording.csv`` lists the level of each clip, and when and why
sound was left out.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, TextIO

import soundfile

from edgeasd.common.errors import ConfigError, StorageError, os_reason
from edgeasd.common.files.folders import InTheWayError, open_plain, opened_folder
from edgeasd.common.files.whole_file import sweep_drafts, whole_file
from edgeasd.common.types import to_int16
from edgeasd.offline.recordings.cutter import CLIP_S, Stretch

LOG_NAME = "recording.csv"
_MANIFEST_NAME = "manifest.csv"
_CLIP = re.compile(r"section_\d\d_(source|target)_train_normal_\d{4,}_.*\.flac")

_FOLLOWS = "follows "

_BYTES_PER_SAMPLE = 2
"""FLAC needs about half of that for most machines, and all of it for noise at full scale."""
_SPARE_BYTES = 64 * 2**20
"""Space left free, because a running daemon may store its alerts on the same disk."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where clips go: folder, section and domain.

    Attributes:
        folder: Folder of the machine type, whose name the trainer takes as the type.
        section: Two digits for the machine, or for one of its operating conditions.
        domain: ``source``, or ``target`` for recordings after a change of conditions.

    Raises:
        ConfigError: If *section* is not two digits.
    """

    folder: Path
    section: str
    domain: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{2}", self.section):
            raise ConfigError(f"section={self.section!r} must be two digits, for example 00")


class RecordingFolder:
    """Adds clips to a folder; to be used in a ``with`` statement.

    A clip gets its name only when it is complete and on the disk, so that neither a power cut nor a
    full disk leaves half of one.

    Args:
        place: Where the clips go.

    Attributes:
        n_clips: Clips of the section and domain in the folder, including earlier calls.

    Raises:
        StorageError: If the folder cannot be read; when entered, if it cannot be written or another
            process records into it.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._clips = place.folder.absolute() / "train"
        with _told(place.folder, "must be a folder that this user can read"):
            listed = (place.folder / _MANIFEST_NAME).exists()
            self._count()
        if listed:
            raise StorageError(
                f"{place.folder}: holds a {_MANIFEST_NAME}, so the trainer would ignore these "
                "recordings; choose another folder with --out"
            )
        self._before = ""

    def __enter__(self) -> RecordingFolder:  # noqa: PYI034 - Self came with Python 3.11
        with _told(self._place.folder, "must be a folder that this user can write"):
            with (
                opened_folder(self._place.folder, make=True) as folder,
                opened_folder(self._clips, make=True) as clips,
            ):
                self._log = _open_log(self._place.folder / LOG_NAME, folder)
                sweep_drafts(clips, lambda name: _CLIP.fullmatch(name) is not None)
            # Another process may have added clips since.
            self._count()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk was reported before
            self._log.close()

    def require_space(self, n_clips: int, sample_rate: int) -> None:
        """Check that *n_clips* fit on the disk.

        Raises:
            StorageError: If they may not fit.
        """
        needed = n_clips * CLIP_S * sample_rate * _BYTES_PER_SAMPLE + _SPARE_BYTES
        there = next(path for path in (self._clips, *self._clips.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if free < needed:
            raise StorageError(
                f"{self._place.folder}: {n_clips} more clips need {_megabytes(needed)} on this "
                f"disk, and {_megabytes(free)} are free; free some space, choose another disk with "
                "--out, or a shorter --duration"
            )

    def add(self, stretch: Stretch, sample_rate: int, end_s: float) -> Path:
        """Write the clip *stretch*, which ended at the Unix time *end_s*; return its path.

        Raises:
            StorageError: If the disk is full or cannot be written.
        """
        self.require_space(1, sample_rate)
        start_s = end_s - CLIP_S
        place = self._place
        name = (
            f"section_{place.section}_{place.domain}_train_normal_{self._next:04d}_"
            f"{datetime.fromtimestamp(start_s, timezone.utc):%Y%m%dT%H%M%SZ}.flac"
        )
        path = self._clips / name
        with _told(path, "cannot be written"):
            with whole_file(path) as file:
                self._write(file, stretch, sample_rate)
            self._note(stretch, sample_rate, end_s, str(path.relative_to(self._clips.parent)))
        self._next += 1
        self._before = name
        self.n_clips += 1
        return path

    def _write(self, file: BinaryIO, stretch: Stretch, sample_rate: int) -> None:
        """Write a clip; its comment names the clip before if no sample was lost between them."""
        with soundfile.SoundFile(file, "w", sample_rate, 1, "PCM_16", format="FLAC") as sound:
            if self._before:
                sound.comment = f"{_FOLLOWS}{self._before}"
            sound.write(to_int16(stretch.samples))

    def leave_out(self, stretch: Stretch, sample_rate: int, end_s: float) -> None:
        """Log that *stretch*, which ended at the Unix time *end_s*, was left out.

        Raises:
            StorageError: If the disk is full or cannot be written.
        """
        with _told(self._place.folder / LOG_NAME, "cannot be written"):
            self._note(stretch, sample_rate, end_s, "")
        self._before = ""

    def _note(self, stretch: Stretch, sample_rate: int, end_s: float, file: str) -> None:
        duration_s = len(stretch.samples) / sample_rate
        start = datetime.fromtimestamp(end_s - duration_s, timezone.utc)
        levels = stretch.levels
        row = {
            "start": start.isoformat(timespec="milliseconds"),
            "duration_s": round(duration_s, 3),
            "section": self._place.section,
            "domain": self._place.domain,
            "file": file,
            "level_dbfs": _rounded(levels.rms_dbfs),
            "peak_dbfs": _rounded(levels.peak_dbfs),
            "n_clipped": levels.n_clipped,
            "left_out": stretch.flaw,
            "lost_s": round(stretch.n_lost / sample_rate, 3),
        }
        log = csv.DictWriter(self._log, row, lineterminator="\n")
        if self._log.tell() == 0:
            log.writeheader()
        log.writerow(row)
        self._log.flush()

    def _count(self) -> None:
        numbers = list(self._numbers())
        self.n_clips = len(numbers)
        self._next = max(numbers, default=-1) + 1

    def _numbers(self) -> Iterator[int]:
        name = re.compile(
            rf"section_{self._place.section}_{self._place.domain}_train_normal_(\d{{4,}})(_.*)?"
            r"\.(flac|wav)"
        )
        for path in self._clips.iterdir() if self._clips.exists() else ():
            if match := name.fullmatch(path.name):
                yield int(match[1])


def follows(before: Path, comment: str) -> bool:
    """Return whether the *comment* of a clip says that it continues the clip at *before*."""
    return comment == f"{_FOLLOWS}{before.name}"


def _open_log(path: Path, folder: int) -> TextIO:
    def opener(name: str, flags: int) -> int:
        return open_plain(name, flags, folder=folder)

    log = open(path.name, "a", encoding="utf-8", newline="", opener=opener)  # noqa: SIM115
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        log.close()
        raise StorageError(
            f"{path.parent}: another process is recording into this folder; wait until it ends, or "
            "choose another folder with --out"
        ) from exc
    return log


@contextlib.contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, soundfile.SoundFileError) as exc:
        remedy = "remove it, or choose" if isinstance(exc, InTheWayError) else "choose"
        raise StorageError(
            f"{path}: {what} ({os_reason(exc)}); {remedy} another folder with --out"
        ) from exc


def _rounded(level_dbfs: float) -> float | None:
    return round(level_dbfs, 1) if math.isfinite(level_dbfs) else None


def _megabytes(n_bytes: int) -> str:
    return f"{math.ceil(n_bytes / 1e6)} MB"
