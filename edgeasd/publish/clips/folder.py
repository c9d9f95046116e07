"""The folder of clips: FLAC files, written whole, removed when too old or too many."""

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

from edgeasd.common.config.keys import ClipsConfig
from edgeasd.common.errors import StorageError
from edgeasd.common.files.folders import opened_folder
from edgeasd.common.files.whole_file import sweep_drafts, whole_file
from edgeasd.common.types import Int16Array
from edgeasd.publish.clips.clip_ages import ClipAges

_NAME = re.compile(r"\d{8}T\d{6}Z_.+_.+-[0-9a-f]{8}-\d{6,}\.flac")
_RESERVE_SHARE = 0.05
_RESERVE_BYTES = 100_000_000
"""Share and bytes of the disk of which the smaller stays free, for the outbox above all."""
_SECONDS_PER_DAY = 86_400.0
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip to be written.

    Attributes:
        name: Name of the file.
        samples: The sound, shape ``(n_samples,)``.
        sample_rate: Sample rate, hertz.
    """

    name: str
    samples: Int16Array
    sample_rate: int


def clip_name(time_ms: int, machine: str, event_id: str) -> str:
    """Return the file name of the clip of an event; by name, clips are in order of time."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time_ms / 1000))
    return f"{moment}_{machine}_{event_id}.flac"


def find_clip(directory: Path, event_id: str) -> Path | None:
    """Return the clip of the event *event_id* in *directory*; None if it is not there."""
    suffix = f"_{event_id}.flac"
    return next((path for path in _clips(directory) if path.name.endswith(suffix)), None)


def find_clips(directory: Path, machine: str, node: str) -> list[Path]:
    """Return the clips of *machine* of this computer, called *node*; the oldest first."""
    # Names may contain the separators of the file name, so the whole of it is matched.
    name = re.compile(rf"[^_]+_{re.escape(machine)}_{re.escape(node)}-[0-9a-f]{{8}}-\d+\.flac")
    return [path for path in _clips(directory) if name.fullmatch(path.name)]


def machine_of(clip: Path, event_id: str) -> str:
    """Return the machine in the name of the *clip* of the event *event_id*."""
    return clip.name.removesuffix(f"_{event_id}.flac").partition("_")[2]


class ClipFolder:
    """The folder of this computer's clips; files with other names are not touched.

    Args:
        config: How long clips are kept, and how many.
        directory: The folder; made if need be, for this user alone.
        ages_path: File that keeps the ages of clips over restarts; None to forget them.
    """

    def __init__(self, config: ClipsConfig, directory: Path, ages_path: Path | None = None) -> None:
        self._config = config
        self.directory = directory
        self._ages = ClipAges(ages_path)

    def prepare(self) -> None:
        """Make the directory, and remove files half written at a crash and clips that are too old.

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
        """Write *clip*, whole or not at all; the oldest clips make room.

        Raises:
            StorageError: If the clip alone is larger than all clips together may be.
            OSError: If the clip cannot be written now.
        """
        self._make()
        path = self.directory / clip.name
        with _encoded(clip) as flac:
            self.make_room(os.fstat(flac.fileno()).st_size)
            # It may contain speech, so no other user may ever read it.
            with whole_file(path, mode=0o600) as file:
                shutil.copyfileobj(flac, file)

    def make_room(self, n_bytes: int = 0) -> None:
        """Remove clips that are too old, then the oldest until *n_bytes* more may be kept.

        Raises:
            StorageError: If *n_bytes* are more than all clips together may take.
            OSError: If the disk has no room even without clips; no clip is removed then.
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
        """Remove clips that are too old, and return the sizes of the others, the oldest first."""
        most_s = self._config.max_age_days * _SECONDS_PER_DAY
        clips = {clip.name: clip for clip in _clips(self.directory)}
        ages_s = self._ages.of(clips)
        sizes = {}
        # By age, not by name: after the clock was set back the newest has the earliest name.
        for name in sorted(clips, key=lambda name: (-ages_s[name], name)):
            if ages_s[name] >= most_s:
                clips[name].unlink(missing_ok=True)
                continue
            with contextlib.suppress(FileNotFoundError):  # removed by somebody else meanwhile
                sizes[clips[name]] = clips[name].stat().st_size
        return sizes

    def _make(self) -> None:
        # An existing directory keeps its mode: the operator may have let others read it.
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _clips(directory: Path) -> list[Path]:
    """Return the clips in *directory* in the order of their names; other files are left out."""
    return sorted(
        path for path in directory.glob("*.flac") if _NAME.fullmatch(path.name) and path.is_file()
    )


@contextlib.contextmanager
def _encoded(clip: Clip) -> Iterator[BinaryIO]:
    """Yield *clip* as FLAC, in a file in memory.

    If the sound library wrote to the disk, it would report a full disk as an "internal error"
    without a reason.  It cannot write to a Python object either: it would need a callback, which
    systemd's ``MemoryDenyWriteExecute=yes`` forbids.  To a file descriptor it writes directly.
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
