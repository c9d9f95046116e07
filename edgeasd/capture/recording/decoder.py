"""Decodes a WAV or FLAC file into samples, even if its header gives a wrong length."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile

from edgeasd.capture.recording.soundfiles import Header, MendedFile, read_header
from edgeasd.common.errors import AudioFileError, os_reason
from edgeasd.common.types import Float32Array

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

_BLOCK = 1_024
_LEAST_RATE, _GREATEST_RATE = 1_000, 1_000_000
"""Sample rates that are accepted.  A damaged header may say 1 Hz, and resampling a recording of
seconds from there would fill the memory."""
_GREATEST_SAMPLE = 2.0**31
"""Largest magnitude of a sample: some programs write 32-bit integers as floats, and the squares of
larger values would overflow."""
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
_BITS |= {"PCM_32": 32, "FLOAT": 32, "DOUBLE": 64}
"""Bits a sample of each encoding; other encodings in WAV files are lossy."""


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]  # it has no types
    """Reads without seeking: soundfile would seek to its own position after each block."""

    def seekable(self) -> bool:
        """Return false; `seek` works nevertheless."""
        return False


class Decoder:
    """Decodes one channel of a WAV or FLAC file.

    A file that is damaged, cut short or longer than its header says is logged once, and decoded as
    far as possible.

    Args:
        path: Path of the file.
        channel: Channel of the file, counted from 0.

    Attributes:
        sample_rate: Sample rate, hertz.
        bits: Bits of a sample.
        comment: Comment in the file; may be empty.
        duration_s: Seconds of sound according to the header; 0 if it does not say.
        damaged: Whether the file could not be read to its end.

    Raises:
        AudioFileError: If there is no such file or channel, or the sample rate is out of bounds.
    """

    def __init__(self, path: Path, channel: int) -> None:
        self._path = path
        self._channel = channel
        self._n_read = 0  # since the start or the last rewind
        self._length_told = False
        self.damaged = False
        self._mended: MendedFile | None = None
        with _open(path) as file:
            self._header = self._check_header(file)
            self._file = self._decode(file.fileno())
        try:
            self._check_format()
            self._check_channel()
            if self._header.form == "WAV" and self._n_promised == 0:
                raise no_sample(path)
        except AudioFileError:
            self.close()
            raise
        self.sample_rate: int = self._file.samplerate
        self.bits = _BITS[self._file.subtype]
        self.comment = str(self._file.comment)
        self.duration_s: float = float(self._n_promised / self.sample_rate)

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return bool(self._file.closed)

    def read(self) -> Float32Array:
        """Return the next samples, shape ``(n_samples,)``; empty at the end or at damage."""
        try:
            samples = self._read_block()
        except (soundfile.SoundFileError, OSError) as exc:
            if self._n_read == self._n_promised > 0:
                return np.empty(0, np.float32)  # something after the sound, such as a tag
            return self._stop_at_damage(os_reason(exc))
        if samples.size == 0:
            self._tell_length()
        elif self._n_read == samples.size:
            self._tell_length_of_wav()
        if not np.all(np.abs(samples) <= _GREATEST_SAMPLE):
            self._n_read -= samples.size
            return self._stop_at_damage("a sample is not a number or far beyond full scale")
        return np.ascontiguousarray(samples)

    def rewind(self) -> None:
        """Start again at the first sample."""
        self._file.seek(0)
        self._n_read = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._mended is not None:
            self._mended.close()

    @property
    def _n_promised(self) -> int:
        """Number of samples according to the header; 0 if it does not say."""
        is_flac = self._header.form == "FLAC"
        return self._header.promised if is_flac else int(self._file.frames)

    def _check_header(self, file: BinaryIO) -> Header:
        try:
            header = read_header(file)
        except OSError as exc:
            raise _unreadable(self._path, exc) from exc
        if header.form in ("WAV", "FLAC"):
            return header
        if header.form:
            raise AudioFileError(
                f"{self._path}: is {header.form}, but only WAV and FLAC can be read; convert it"
            )
        raise _no_sound(self._path)

    def _decode(self, descriptor: int) -> Any:
        try:
            if self._header.mended:
                self._mended = MendedFile(os.dup(descriptor), self._header)
                with suppress(MemoryError):  # systemd's MemoryDenyWriteExecute=yes
                    return _SoundFile(self._mended)
                self._mended.close()
                self._mended = None
            os.lseek(descriptor, 0, os.SEEK_SET)
            return _SoundFile(os.dup(descriptor), closefd=True)
        except soundfile.SoundFileError as exc:
            raise _no_sound(self._path) from exc

    def _check_format(self) -> None:
        rate, subtype = self._file.samplerate, self._file.subtype
        if subtype not in _BITS:
            raise AudioFileError(
                f"{self._path}: is {self._header.form} with the lossy encoding {subtype}; record "
                "it again as 16-bit WAV or FLAC"
            )
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

    def _read_block(self) -> Float32Array:
        wanted = _BLOCK
        if self._n_read < self._n_promised:
            # What follows the sound may fail to decode, and must not take sound with it.
            wanted = min(wanted, self._n_promised - self._n_read)
        samples: Float32Array = self._file.read(wanted, dtype="float32", always_2d=True)
        if self._mended is not None and self._mended.error is not None:
            raise self._mended.error
        self._n_read += len(samples)
        return samples[:, self._channel]

    def _stop_at_damage(self, reason: str) -> Float32Array:
        self.damaged = True
        _log.warning(
            "%s: is damaged after sample %d (%s); the rest is left out",
            self._path,
            self._n_read,
            reason,
        )
        return np.empty(0, np.float32)

    def _tell_length_of_wav(self) -> None:
        header = self._header
        if self._length_told or header.form != "WAV":
            return
        self._length_told = True
        if header.cut_short:
            self._tell_less("bytes of sound", header.there or 0, header.promised)
        elif header.mended:
            self._tell_more("bytes", header.there or 0, used=self._mended is not None)

    def _tell_length(self) -> None:
        """Log the length if it differs from that of the header."""
        n_promised = self._n_promised
        if n_promised == 0 or self._length_told:
            return
        self._length_told = True
        if self._n_read > n_promised:
            self._tell_more("samples", self._n_read, used=True)
        elif self._n_read < n_promised:
            self._tell_less("samples", self._n_read, n_promised)

    def _tell_less(self, unit: str, there: int, promised: int) -> None:
        _log.warning(
            "%s: is cut short, with %d of %d %s; they are used",
            self._path,
            there,
            promised,
            unit,
        )

    def _tell_more(self, unit: str, there: int, *, used: bool) -> None:
        _log.warning(
            "%s: the header says %d %s of sound, but there are %d; %s",
            self._path,
            self._header.promised,
            unit,
            there,
            "all are used" if used else "the rest is left out",
        )


def _open(path: Path) -> BinaryIO:
    try:
        # Opening a pipe or a device may block for ever, or have an effect.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _no_file(path)
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
        with ExitStack() as undone:
            undone.callback(file.close)
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):  # it replaced the file meanwhile
                raise _no_file(path)
            if status.st_size == 0:
                raise AudioFileError(f"{path}: is empty; record it again")
            undone.pop_all()
    except FileNotFoundError as exc:
        raise AudioFileError(f"{path}: does not exist; check the path") from exc
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    return file


def no_sample(path: Path) -> AudioFileError:
    """Return the error for a file without sound."""
    return AudioFileError(f"{path}: contains no sample; record it again")


def _no_file(path: Path) -> AudioFileError:
    return AudioFileError(f"{path}: is not a file; name one WAV or FLAC file")


def _unreadable(path: Path, exc: OSError) -> AudioFileError:
    return AudioFileError(
        f"{path}: cannot be read ({exc.strerror}); check that this user may read it"
    )


def _no_sound(path: Path) -> AudioFileError:
    return AudioFileError(
        f"{path}: is not a sound file that can be read; convert it to WAV or FLAC"
    )
