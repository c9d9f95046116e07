"""A recording as a source of sound."""

from __future__ import annotations

import logging
import math
import os
import re
import stat
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from edgeasd.capture.pace import Pace
from edgeasd.capture.resampler import Resampler
from edgeasd.errors import AudioFileError
from edgeasd.stream import AudioBlock, Float32Array

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

_BLOCK = 1_024
_LEAST_RATE, _GREATEST_RATE = 1_000, 1_000_000
"""A damaged header may say 1 Hz: resampled, such a recording of seconds would fill the memory."""
_GREATEST_SAMPLE = 2.0**31
"""Some programs write whole numbers of 32 bits as floats.  The squares of more would overflow."""

# libsndfile's own log is the only place where it tells that a WAV file is cut short.
_CUT_SHORT = re.compile(r"^\s*data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_PLACEHOLDER_SIZE = 0x7FFF_0000  # recorders that write to a pipe promise this much or more


class WavFile:
    """A WAV or FLAC file as an `AudioSource`; any rate, one of any number of channels.

    Samples of 16-bit files are their integer values over 32768, exactly.  Of a file that is cut
    short or damaged, what is before the damage is delivered, and a warning logged.

    Args:
        path: The file.
        channel: Counted from 0.
        paced: Whether to deliver in real time, from the first `read`.
        repeat: Whether to begin anew at the end; then it never ends, unless it is damaged.

    Raises:
        AudioFileError: If there is no such file, channel, or not one sample, or if no microphone
            has its rate; names the remedy.
    """

    overruns = 0
    fault = ""
    hung = False
    drift_ppm = math.nan

    def __init__(
        self, path: Path, channel: int = 0, *, paced: bool = False, repeat: bool = False
    ) -> None:
        self._path = path
        self._channel = channel
        self._repeat = repeat
        self._file = _open(path)
        self._lock = threading.Lock()  # a file closed during a read brings the process down
        self._position = 0
        try:
            self._check_rate()
            self._check_channel()
            self._next = self._first_block()
        except AudioFileError:
            self._file.close()
            raise
        self.sample_rate: int = self._file.samplerate
        self._pace = Pace(self.sample_rate)
        self._paced = paced
        self._warn_if_cut_short()

    @property
    def ended(self) -> bool:
        """Whether the last block has been read."""
        return self._next.size == 0

    @property
    def late_s(self) -> float:
        """For how long sound that is due has waited to be read, seconds."""
        return self._pace.late_s(self._position) if self._paced else 0.0

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return the next block, or None if it is not due in time, at the end, or after `close`."""
        due = not self._paced or self._pace.wait(self._position + self._next.size, timeout_s)
        with self._lock:
            if not due or self.ended or self._file.closed:
                return None
            block = AudioBlock(self._next, self._position)
            self._position += self._next.size
            self._next = self._read_ahead()
        return block

    def close(self) -> None:
        """Close the file, and end a `read` that waits."""
        self._pace.stop()
        with self._lock:
            self._file.close()

    def _check_rate(self) -> None:
        rate = self._file.samplerate
        if not _LEAST_RATE <= rate <= _GREATEST_RATE:
            raise AudioFileError(
                f"{self._path}: sample_rate={rate} must be from {_LEAST_RATE} to "
                f"{_GREATEST_RATE}; record it again"
            )

    def _check_channel(self) -> None:
        n_channels = self._file.channels
        if self._channel >= n_channels:
            raise AudioFileError(
                f"{self._path}: channel={self._channel} must be from 0 to {n_channels - 1}, "
                f"as the file has {n_channels} channel{'s' if n_channels > 1 else ''}"
            )

    def _first_block(self) -> Float32Array:
        samples = self._read_ahead()
        if samples.size == 0:
            raise AudioFileError(f"{self._path}: contains no sample; record it again")
        return samples

    def _read_ahead(self) -> Float32Array:
        try:
            samples = self._read_block()
            if samples.size == 0 and self._repeat:
                self._file.seek(0)
                samples = self._read_block()
        except soundfile.SoundFileError as exc:
            return self._stop_at_damage(str(exc))
        if not np.all(np.abs(samples) <= _GREATEST_SAMPLE):
            return self._stop_at_damage("a sample is not a number, or beyond all sound")
        return np.ascontiguousarray(samples)

    def _read_block(self) -> Float32Array:
        samples: Float32Array = self._file.read(_BLOCK, dtype="float32", always_2d=True)
        return samples[:, self._channel]

    def _stop_at_damage(self, reason: str) -> Float32Array:
        _log.warning(
            "%s: is damaged after sample %d (%s); the rest is left out",
            self._path,
            self._position,
            reason,
        )
        return np.empty(0, np.float32)

    def _warn_if_cut_short(self) -> None:
        found = _CUT_SHORT.search(self._file.extra_info)
        if found is None:
            return
        promised, there = int(found[1]), int(found[2])
        if there < promised < _PLACEHOLDER_SIZE:
            _log.warning(
                "%s: is cut short, with %d of %d bytes of sound; what is there is used",
                self._path,
                there,
                promised,
            )


def read_clip(path: Path, channel: int = 0, sample_rate: int = 16_000) -> Float32Array:
    """Return a whole file at *sample_rate*, exactly as the stream of it would be.

    Returns:
        Shape ``(n_samples,)``, full scale is +-1.0.

    Raises:
        AudioFileError: As `WavFile`.
    """
    source = WavFile(path, channel)
    resampler = Resampler(source.sample_rate, sample_rate)
    pieces = []
    while (block := source.read(0.0)) is not None:
        pieces.append(resampler.process(block).samples)
    pieces.append(resampler.flush().samples)
    source.close()
    return np.concatenate(pieces)


def _open(path: Path) -> Any:
    try:
        # Opening a pipe or a device would wait, perhaps for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise AudioFileError(f"{path}: is not a file; name one WAV or FLAC file")
        with path.open("rb") as file:
            empty = file.read(1) == b""
    except FileNotFoundError as exc:
        raise AudioFileError(f"{path}: does not exist; check the path") from exc
    except OSError as exc:
        raise AudioFileError(
            f"{path}: cannot be read ({exc.strerror}); check that this user may read it"
        ) from exc
    if empty:
        raise AudioFileError(f"{path}: is empty; record it again")
    try:
        # As bytes: a name need not be text.
        return soundfile.SoundFile(os.fsencode(path))
    except (soundfile.SoundFileError, TypeError) as exc:  # TypeError: its name ends in .raw
        raise AudioFileError(
            f"{path}: is not a sound file that can be read; convert it to WAV or FLAC"
        ) from exc
