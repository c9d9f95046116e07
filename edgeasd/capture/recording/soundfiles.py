"""Finds out the format of a sound file and how much sound it really holds, by its first bytes.

libsndfile knows 24 formats and trusts the length in a header.  Here, a file that is neither WAV nor
FLAC is refused before any other decoder sees it.  A header that gives too small a length, because a
recorder was killed or the file is larger than 4 GiB, is corrected while it is read.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_OTHERS = (
    (0, b"FORM", "AIFF"),
    (0, b".snd", "AU"),
    (0, b"OggS", "Ogg"),
    (0, b"caff", "CAF"),
    (0, b"riff", "Wave64"),
    (0, b"BW64", "BW64"),
    (0, b"wvpk", "WavPack"),
    (0, b"ID3", "MP3"),
    *((0, b"\xff" + bytes([second]), "MP3") for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2)),
    (4, b"ftyp", "MP4"),
)
"""Other formats of recordings: offset, bytes at that offset, name."""
_BYTE_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}
_UNKNOWN = 0xFFFF_FFFF
"""Size field of a larger file, whose size is in a chunk ``ds64``."""
_PLACEHOLDER = 0x7FFF_0000
"""Least length in headers of recorders that write to a pipe and do not know the length."""
_MOST_CHUNKS = 1_000
"""Chunks to look at; bounds the time that a damaged file takes."""
_CHUNK_HEADER = 8
"""Bytes of a chunk's name and size."""
_MOST_PADDING = 65_536
"""Largest number of zero bytes after the sound that are taken for padding."""
_FLAC_TOTAL_AT = 21
"""Offset of the bytes in a FLAC file whose last 36 bits are the number of samples."""
_FLAC_MOST = 2**36 - 1
"""Largest number of samples that a FLAC header can hold."""


@dataclass(frozen=True, slots=True)
class Header:
    """Content of the header of a sound file.

    Attributes:
        form: ``WAV`` or ``FLAC``; for other files the name of their format, or empty.
        promised: Length in the header, bytes in WAV, samples in FLAC; 0 if it gives none.
        there: Bytes of sound in a WAV file; `None` for FLAC, where only decoding tells.
        place: Offset of the length in the file.
        mended: Bytes to read at that offset so that all sound is read; empty if they are right.
    """

    form: str
    promised: int = 0
    there: int | None = None
    place: int = 0
    mended: bytes = b""

    @property
    def cut_short(self) -> bool:
        """Whether the file holds less sound than its header says."""
        return self.there is not None and self.there < self.promised < _PLACEHOLDER


def read_header(file: BinaryIO) -> Header:
    """Return the header of *file*."""
    start = file.read(26)
    if start[:4] == b"fLaC" and len(start) == 26:  # noqa: PLR2004 - up to the number of samples
        return _flac_header(start)
    if start[:4] in _BYTE_ORDERS and start[8:12] == b"WAVE":
        return _wav_header(file, _BYTE_ORDERS[start[:4]])
    places = (name for at, magic, name in _OTHERS if start[at : at + len(magic)] == magic)
    return Header(next(places, ""))


class MendedFile:
    """A sound file with a corrected length in its header, as libsndfile is to see it.

    Args:
        descriptor: Descriptor of the file, which this object closes.
        header: Header of the file, with the correction.

    Attributes:
        error: Error of the last read, if any, because libsndfile does not report it.
    """

    def __init__(self, descriptor: int, header: Header) -> None:
        self._descriptor = descriptor
        self._header = header
        self._position = 0
        self.error: OSError | None = None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def seek(self, offset: int, whence: int) -> int:
        """Set the position, and return it."""
        before = (0, self._position, os.fstat(self._descriptor).st_size)
        self._position = before[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, n_bytes: int) -> bytes:
        """Return the next *n_bytes* bytes, or fewer at the end or if they cannot be read."""
        start, place, mended = self._position, self._header.place, self._header.mended
        try:
            content = os.pread(self._descriptor, n_bytes, start)
        except OSError as exc:
            self.error = exc
            return b""
        self._position += len(content)
        if start >= place + len(mended):
            return content
        changed = bytearray(content)
        for index, value in enumerate(mended, place - start):
            if 0 <= index < len(changed):
                changed[index] = value
        return bytes(changed)


def _flac_header(start: bytes) -> Header:
    """Return the header of a FLAC file; the last 36 bits of *start* are the number of samples."""
    number = int.from_bytes(start[_FLAC_TOTAL_AT:], "big")
    mended = (number | _FLAC_MOST).to_bytes(len(start) - _FLAC_TOTAL_AT, "big")
    return Header("FLAC", number & _FLAC_MOST, None, _FLAC_TOTAL_AT, mended)


def _wav_header(file: BinaryIO, order: str) -> Header:
    """Return the header of a WAV file, by its chunks up to the sound."""
    end = file.seek(0, 2)
    at, long_size, long_place = 12, 0, 0
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        header = file.read(_CHUNK_HEADER)
        if len(header) < _CHUNK_HEADER:
            break
        name, size = struct.unpack(f"{order}4sI", header)
        at += _CHUNK_HEADER
        if name == b"ds64":
            long_place = at + 8
            long_size = int.from_bytes(file.read(16)[8:], "little")
        if name == b"data":
            is_long = size == _UNKNOWN and long_place > 0
            promised, there = long_size if is_long else size, end - at
            if promised >= there or _is_other(file, at + promised, end, order):
                return Header("WAV", promised, min(promised, there) if promised else 0)
            if is_long:
                return Header("WAV", promised, there, long_place, struct.pack("<Q", there))
            mended = struct.pack(f"{order}I", min(there, _UNKNOWN))
            return Header("WAV", promised, there, at - 4, mended)
        at += size + size % 2
    return Header("WAV")


def _is_other(file: BinaryIO, start: int, end: int, order: str) -> bool:
    """Return whether the bytes after the sound are other chunks or padding, and not more sound.

    Chunks begin at even offsets, but some programs ignore that.
    """
    file.seek(start)
    if end - start <= _MOST_PADDING and not any(file.read(end - start)):
        return True
    return any(_are_chunks(file, each, end, order) for each in {start, start + start % 2})


def _are_chunks(file: BinaryIO, at: int, end: int, order: str) -> bool:
    for _ in range(_MOST_CHUNKS):
        if end - at < _CHUNK_HEADER:
            return at <= end + 1
        file.seek(at)
        name, size = struct.unpack(f"{order}4sI", file.read(_CHUNK_HEADER))
        if not (name.isascii() and name.decode("latin-1").isprintable()):
            return False
        at += _CHUNK_HEADER + size + size % 2
    return False
