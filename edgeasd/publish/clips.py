"""The sound around the start of an alarm, as FLAC files.

One thread writes; whoever has a clip leaves it and goes on.  Trouble with the disk reaches nobody
but the health message.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import soundfile

from edgeasd.config import ClipsConfig
from edgeasd.publish.payloads import ClipsHealth
from edgeasd.stream import Int16Array

_log = logging.getLogger(__name__)

MOST_WAITING = 8
"""Clips that wait for a slow disk, 1 to 3 MB each; further ones are dropped and counted."""
_NAME = re.compile(r"\d{8}T\d{6}Z_.+_.+-[0-9a-f]{8}-\d{6,}\.flac")
_PART = ".part"
_RESERVE = 0.05
"""Share of the disk that clips leave free: the outbox and others need it more."""
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


def machine_of(clip: Path, event_id: str) -> str:
    """Return the machine in the name of the *clip* of the event *event_id*."""
    return clip.name.removesuffix(f"_{event_id}.flac").partition("_")[2]


class ClipWriter:
    """Writes clips in a thread of its own, and removes old ones.

    Args:
        config: How long and how many are kept.
        directory: Where; made if need be, for this user alone.
    """

    def __init__(self, config: ClipsConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self._queue: queue.Queue[Clip | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._written = 0
        self._dropped = 0
        self._fault = ""

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for at most *timeout_s* seconds."""
        if not self._thread.is_alive():
            return
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def put(self, clip: Clip) -> None:
        """Have *clip* written soon; dropped and counted if too many wait.  Never waits."""
        try:
            self._queue.put_nowait(clip)
        except queue.Full:
            self._dropped += 1
            self._fail("clips wait for the disk faster than it takes them")

    @property
    def health(self) -> ClipsHealth:
        """How clips are kept."""
        return ClipsHealth(self._fault == "", self._fault, self._written, self._dropped)

    def _run(self) -> None:
        self._attempt(self._clean_up)
        while (clip := self._queue.get()) is not None:
            if self._attempt(lambda clip=clip: self._write(clip)):  # type: ignore[misc]
                self._written += 1
            else:
                self._dropped += 1

    def _attempt(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except (OSError, soundfile.SoundFileError) as exc:
            self._fail(f"clips cannot be written to {self._directory} ({exc})")
            return False
        if self._fault:
            _log.info("clips can be written again")
        self._fault = ""
        return True

    def _fail(self, fault: str) -> None:
        if fault != self._fault:
            _log.warning("%s; alerts go out without them", fault)
        self._fault = fault

    def _write(self, clip: Clip) -> None:
        # FLAC is never longer than the samples by more than a header.
        self._make_room(clip.samples.nbytes)
        part = self._directory / (clip.name + _PART)
        try:
            with part.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                with soundfile.SoundFile(
                    file, "w", clip.sample_rate, channels=1, subtype="PCM_16", format="FLAC"
                ) as flac:
                    flac.title = clip.name
                    flac.write(clip.samples)
                file.flush()
                os.fsync(file.fileno())
            part.rename(part.with_suffix(""))
        finally:
            part.unlink(missing_ok=True)

    def _clean_up(self) -> None:
        """Make the directory, remove what a crash left half written, and what is too old."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._directory.glob(f"*.flac{_PART}"):
            if _NAME.fullmatch(part.name.removesuffix(_PART)):
                part.unlink(missing_ok=True)
        self._make_room(0)

    def _make_room(self, n_bytes: int) -> None:
        """Remove old clips until *n_bytes* more are within what may be kept.

        Raises:
            OSError: If the disk has no room even without clips.
        """
        clips = _clips(self._directory)
        sizes = [clip.stat().st_size for clip in clips]
        newest_kept_s = time.time() - self._config.max_age_days * _SECONDS_PER_DAY
        for clip in clips:
            disk = shutil.disk_usage(self._directory)
            is_old = clip.stat().st_mtime < newest_kept_s
            is_too_much = sum(sizes) + n_bytes > self._config.max_size_mb * _BYTES_PER_MB
            if not (is_old or is_too_much or disk.free - n_bytes < _RESERVE * disk.total):
                return
            clip.unlink(missing_ok=True)
            del sizes[0]
        disk = shutil.disk_usage(self._directory)
        if n_bytes and disk.free - n_bytes < _RESERVE * disk.total:
            raise OSError(f"only {disk.free // _BYTES_PER_MB} MB are free")


def _clips(directory: Path) -> list[Path]:
    """Return our files in *directory*, the oldest first; no other is ever touched."""
    return sorted(path for path in directory.glob("*.flac") if _NAME.fullmatch(path.name))
