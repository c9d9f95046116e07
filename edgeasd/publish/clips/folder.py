"""The sound around the start of an alarm, as FLAC files: whole, not too old, not too many."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import soundfile

from edgeasd.common.config import ClipsConfig
from edgeasd.common.errors import StorageError
from edgeasd.common.files.folders import opened_folder
from edgeasd.common.files.whole_file import sweep_drafts, whole_file
from edgeasd.common.types import Int16Array
from edgeasd.publish.clips.clip_ages import ClipAges

_NAME = re.compile(r"\d{8}T\d{6}Z_.+_.+-[0-9a-f]{8}-\d{6,}\.flac")
_RESERVE_SHARE = 0.05
_RESERVE_BYTES = 100_000_000
"""Of the disk, the smaller of both stays free: the outbox and others need it more."""
_SECONDS_PER_DAY = 86_400.0
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Sound to be written.

    Attributes:
        name: Of the file.
        samples: Shape ``(n_samples,)``.
        sample_rate: Hertz.
    """

    name: str
    samples: Int16Array
    sample_rate: int


def clip_name(time_ms: int, machine: str, event_id: str) -> str:
    """Return the name of the clip of an event: by name, files are in order of time."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time_ms / 1000))
    return f"{moment}_{machine}_{event_id}.flac"


def find_clip(directory: Path, event_id: str) -> Path | None:
    """Return the clip of the event *event_id* in *directory*, if it is there."""
    suffix = f"_{event_id}.flac"
    return next((path for path in _clips(directory) if path.name.endswith(suffix)), None)


def find_clips(directory: Path, machine: str, node: str) -> list[Path]:
    """Return the clips of *machine* of this computer, called *node*; the oldest first."""
    # Names may hold the very marks that part them here: only the whole of it is sure.
    name = re.compile(rf"[^_]+_{re.escape(machine)}_{re.escape(node)}-[0-9a-f]{{8}}-\d+\.flac")
    return [path for path in _clips(directory) if name.fullmatch(path.name)]


def machine_of(clip: Path, event_id: str) -> str:
    """Return the machine in the name of the *clip* of the event *event_id*."""
    return clip.name.removesuffix(f"_{event_id}.flac").partition("_")[2]


class ClipFolder:
    """The folder of this computer's clips; files of other names are let be.

    Args:
        config: How long and how many are kept.
        directory: Where; made if need be, for this user alone.
        ages_path: File that remembers how old clips are over restarts; None remembers nothing.
    """

    def __init__(self, config: ClipsConfig, directory: Path, ages_path: Path | None = None) -> None:
        self._config = config
        self.directory = directory
        self._ages = ClipAges(ages_path)

    def prepare(self) -> None:
        """Make the directory, and remove what a crash left half written and what is too old.

        Raises:
            OSError: If clips cannot be written to it.
        """
        self._make()
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "this user may not write there")
        with opened_folder(self.directory) as folder:
            sweep_drafts(folder, lambda name: _NAME.fullmatch(name) is not None)
        self.make_room()

    def write(self, clip: Clip) -> None:
        """Write *clip*, whole or not at all; the oldest make room.

        Raises:
            StorageError: If it alone is more than all clips together may take.
            OSError: If it cannot be written now.
        """
        self._make()
        path = self.directory / clip.name
        with _encoded(clip) as flac:
            self.make_room(os.fstat(flac.fileno()).st_size)
            # Speech may be in it: from the first byte for this user alone.
            with whole_file(path, mode=0o600) as file:
                shutil.copyfileobj(flac, file)

    def make_room(self, n_bytes: int = 0) -> None:
        """Remove clips that are too old, then the oldest until *n_bytes* more may be kept.

        Raises:
            StorageError: If *n_bytes* are more than all clips together may take.
            OSError: If the disk has no room even without clips; those there are then stay.
        """
        most = self._config.max_size_mb * _BYTES_PER_MB
        if n_bytes > most:
            raise StorageError(
                f"clips.max_size_mb={self._config.max_size_mb:g} must be at least "
                f"{n_bytes / _BYTES_PER_MB:.1f}, the size of a clip"
            )
        sizes = self._remove_old()
        if not sizes and not n_bytes:
            return
        disk = os.statvfs(self.directory)
        free = disk.f_bavail * disk.f_frsize
        reserve = min(_RESERVE_BYTES, _RESERVE_SHARE * disk.f_blocks * disk.f_frsize)
        n_taken = -(-n_bytes // disk.f_frsize) * disk.f_frsize
        n_kept = sum(sizes.values())
        excess = max(n_bytes - (most - n_kept), n_taken - (free - reserve))
        if excess > n_kept:
            raise OSError(errno.ENOSPC, f"only {free / _BYTES_PER_MB:.1f} MB are free")
        for clip, size in sizes.items():
            if excess <= 0:
                break
            clip.unlink(missing_ok=True)
            excess -= size

    def _remove_old(self) -> dict[Path, int]:
        """Remove clips that are too old, and return the size of each other, the oldest first."""
        most_s = self._config.max_age_days * _SECONDS_PER_DAY
        clips = {clip.name: clip for clip in _clips(self.directory)}
        ages_s = self._ages.of(clips)
        sizes = {}
        # By age and not by name: a clock that was set back gives the newest the earliest name.
        for name in sorted(clips, key=lambda name: (-ages_s[name], name)):
            if ages_s[name] >= most_s:
                clips[name].unlink(missing_ok=True)
                continue
            with contextlib.suppress(FileNotFoundError):  # somebody removed it this moment
                sizes[clips[name]] = clips[name].stat().st_size
        return sizes

    def _make(self) -> None:
        # One that is there keeps its mode: the site may have let others read it.
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _clips(directory: Path) -> list[Path]:
    """Return our files in *directory*, the oldest first; no other is ever touched."""
    return sorted(
        path for path in directory.glob("*.flac") if _NAME.fullmatch(path.name) and path.is_file()
    )


@contextlib.contextmanager
def _encoded(clip: Clip) -> Iterator[BinaryIO]:
    """Give *clip* as FLAC, in a file that lies in memory.

    Written to the disk by the sound library itself, a full disk is an "internal error" without a
    reason.  And the library writes to a Python object through a callback, which systemd's
    ``MemoryDenyWriteExecute=yes`` forbids; to a descriptor it writes without.
    """
    with os.fdopen(os.memfd_create("clip"), "r+b") as file:
        with soundfile.SoundFile(
            file.fileno(),
            "w",
            clip.sample_rate,
            channels=1,
            subtype="PCM_16",
            format="FLAC",
            closefd=False,
        ) as flac:
            flac.title = clip.name
            flac.write(clip.samples)
        file.seek(0)
        yield file
