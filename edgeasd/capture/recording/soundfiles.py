"""What a sound file is, and how much sound is really in it, by its own first bytes.

libsndfile knows 24 formats and believes what a header promises.  Here a file is WAV or FLAC or
refused before any of its other decoders sees it, and a header that promises less than is there, as
of a recorder that was killed or of a file beyond 4 GiB, is mended as it is read.
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
"""What people record in as well: place, bytes there, name."""
_BYTE_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}
_UNKNOWN = 0xFFFF_FFFF
"""Size in 32 bits of what is larger; it stands in a chunk ``ds64`` then."""
_PLACEHOLDER = 0x7FFF_0000
"""Recorders that write to a pipe promise this much or more."""
_MOST_CHUNKS = 1_000
_CHUNK_HEADER = 8
_MOST_PADDING = 65_536
_FLAC_TOTAL_AT = 21
_FLAC_MOST = 2**36 - 1


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a sound file say.

    Attributes:
        form: ``WAV`` or ``FLAC``; another format's name, or empty, of what is not read.
        promised: Bytes of sound in WAV, samples in FLAC; 0 if the header does not know.
        there: Bytes of sound in WAV; None of FLAC, where only reading tells.
        place: Where in the file the promise stands.
        mended: What to read there so that all sound is read; empty if the promise is kept.
    """

    form: str
    promised: int = 0
    there: int | None = None
    place: int = 0
    mended: bytes = b""

    @property
    def cut_short(self) -> bool:
        """Whether less sound is there than was promised."""
        return self.there is not None and self.there < self.promised < _PLACEHOLDER


def read_header(file: BinaryIO) -> Header:
    """Return what the first bytes of *file* say."""
    start = file.read(26)
    if start[:4] == b"fLaC" and len(start) == 26:  # noqa: PLR2004 - up to the number of samples
        return _flac_header(start)
    if start[:4] in _BYTE_ORDERS and start[8:12] == b"WAVE":
        return _wav_header(file, _BYTE_ORDERS[start[:4]])
    places = (name for at, magic, name in _OTHERS if start[at : at + len(magic)] == magic)
    return Header(next(places, ""))


class MendedFile:
    """A sound file as libsndfile is to see it: with another promise in its header.

    Args:
        descriptor: Descriptor of the file, which this closes.
        header: Says what to read where.

    Attributes:
        error: What kept it from being read, if anything: libsndfile does not tell.
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
        """Go to a place."""
        before = (0, self._position, os.fstat(self._descriptor).st_size)
        self._position = before[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def read(self, n_bytes: int) -> bytes:
        """Return the next *n_bytes* bytes, or fewer at the end or before what cannot be read."""
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
    """Return that of a FLAC file: its last 36 bits are the number of samples."""
    number = int.from_bytes(start[_FLAC_TOTAL_AT:], "big")
    mended = (number | _FLAC_MOST).to_bytes(len(start) - _FLAC_TOTAL_AT, "big")
    return Header("FLAC", number & _FLAC_MOST, None, _FLAC_TOTAL_AT, mended)


def _wav_header(file: BinaryIO, order: str) -> Header:
    """Return that of a WAV file, from its chunks up to the sound."""
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
    """Return whether what follows the sound is none: other chunks, such as a list, or padding.

    Chunks begin at even places, which not every program knows.
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
