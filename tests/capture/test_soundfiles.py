"""What a header promises and what is there: neither formats nor sizes are believed."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.capture.recording.wavfile import (
    LONGEST_CLIP_S,
    WavFile,
    blocks_at,
    read_clip,
    read_part,
)
from edgeasd.common.errors import AudioFileError

RATE = 8_000
SOUND = np.random.default_rng(7).integers(-20_000, 20_000, 3_000).astype("<i2")
EXPECTED = SOUND / np.float32(32_768.0)
N_BYTES = SOUND.nbytes


def chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    """Return a chunk with its padding."""
    return name + struct.pack(f"{order}I", len(content)) + content + bytes(len(content) % 2)


def wav(
    data_size: int, tail: bytes = b"", head: bytes = b"", magic: bytes = b"RIFF", order: str = "<"
) -> bytes:
    """Return a WAV file of `SOUND` whose header says *data_size*, with chunks around the sound."""
    fmt = struct.pack(f"{order}HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    sound = SOUND.astype(f"{order}i2").tobytes()
    body = head + chunk(b"fmt ", fmt, order) + b"data" + struct.pack(f"{order}I", data_size) + sound
    return magic + struct.pack(f"{order}I", len(body) + 4) + b"WAVE" + body + tail


def rf64(data_size: int, tail: bytes = b"") -> bytes:
    """Return the same as RF64, whose sizes are of 64 bits."""
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, data_size, 0, 0))
    return wav(0xFFFF_FFFF, tail, sizes, b"RF64")


def read(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return all samples of a file at its own rate."""
    return read_clip(path, sample_rate=RATE)


LIST = chunk(b"LIST", b"INFOISFT\x05\x00\x00\x00edge\x00\x00")
ID3 = chunk(b"id3 ", b"ID3\x03" + bytes(99))
BEXT = chunk(b"bext", b"of the studio" + bytes(600))


@pytest.mark.parametrize(
    "content",
    [
        wav(N_BYTES),
        wav(N_BYTES, LIST),
        wav(N_BYTES, ID3 + LIST + BEXT),
        wav(N_BYTES, head=LIST + BEXT),
        wav(N_BYTES, bytes(512)),
        wav(N_BYTES, b"\x01"),
        wav(N_BYTES, chunk(b"LIST", b"INFO", ">"), order=">", magic=b"RIFX"),
        wav(0xFFFF_FFFF),
        wav(0x7FFF_FFFF),
        rf64(N_BYTES),
        rf64(N_BYTES, LIST),
    ],
)
def test_wav_whose_header_is_true_gives_its_sound_alone(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Lists, tags and padding after the sound are none, before it neither, and no news."""
    path = tmp_path / "a.wav"
    path.write_bytes(content)

    assert np.array_equal(read(path)[: len(EXPECTED)], EXPECTED)
    assert len(read(path)) == len(EXPECTED)
    assert caplog.messages == []


@pytest.mark.parametrize("promised", [0, 2, 1_500, N_BYTES - 8])
@pytest.mark.parametrize("make", [wav, rf64])
def test_wav_longer_than_its_header_says_is_used_to_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[int], bytes], promised: int
) -> None:
    """Of a recorder that was killed, or of a size taken modulo 4 GiB; it is told once."""
    path = tmp_path / "a.wav"
    path.write_bytes(make(promised))

    assert np.array_equal(read(path), EXPECTED)
    assert caplog.messages == [
        f"{path}: the header says {promised} bytes of sound, but there are {N_BYTES}; all are used"
    ]


def test_wav_without_sound_but_with_a_list_contains_no_sample(tmp_path: Path) -> None:
    """What follows the sound is no sound, also where there is none."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(0).replace(SOUND.tobytes(), LIST))

    with pytest.raises(AudioFileError, match="contains no sample"):
        WavFile(path)


def test_wav_longer_than_its_header_says_repeats_as_a_whole(tmp_path: Path) -> None:
    """Its second round begins at the sound too, not in the header."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(100))
    source = WavFile(path, repeat=True)

    pieces = [block.samples for _ in range(6) if (block := source.read(0.0)) is not None]

    assert np.array_equal(np.concatenate(pieces), np.tile(EXPECTED, 2))
    source.close()


def flac(tmp_path: Path, promised: int | None, tail: bytes = b"") -> Path:
    """Write `SOUND` as FLAC whose header promises so many samples, None for what is true."""
    path = tmp_path / "a.flac"
    soundfile.write(path, SOUND, RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    if promised is not None:
        number = int.from_bytes(content[21:26], "big") >> 36 << 36 | promised
        content[21:26] = number.to_bytes(5, "big")
    path.write_bytes(content + tail)
    return path


@pytest.mark.parametrize(
    ("promised", "tail", "told"),
    [
        (None, b"", None),
        (None, b"TAG" + bytes(125), None),
        (0, b"", None),
        (
            1_000,
            b"",
            "the header says 1000 samples of sound, but there are 3000; all are used",
        ),
        (9_999, b"", "is cut short, with 3000 of 9999 samples; they are used"),
        (2**36 - 1, b"", "is cut short, with 3000 of 68719476735 samples; they are used"),
    ],
)
def test_flac_gives_what_is_there_whatever_its_header_says(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    promised: int | None,
    tail: bytes,
    told: str | None,
) -> None:
    """A stream that was never finished knows no length; a tag after the sound is no damage."""
    path = flac(tmp_path, promised, tail)

    samples = np.concatenate([block.samples for block in blocks_at(path, 0, RATE)])

    assert np.array_equal(samples, EXPECTED)
    assert caplog.messages == ([] if told is None else [f"{path}: {told}"])


def test_flac_that_cannot_be_read_on_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk is no end of the recording."""
    path = tmp_path / "a.flac"
    soundfile.write(path, np.tile(SOUND, 20), RATE, subtype="PCM_16")

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    source = WavFile(path)
    monkeypatch.setattr(os, "pread", fail)
    n_samples = sum(block.samples.size for block in iter(lambda: source.read(0.0), None))
    source.close()

    assert n_samples < 60_000
    assert caplog.messages == [
        f"{path}: is damaged after sample {n_samples} (Input/output error); the rest is left out"
    ]


def test_file_is_read_where_the_library_may_not_call_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under systemd's MemoryDenyWriteExecute the header is believed, and that is told."""

    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(soundfile.SoundFile, "_init_virtual_io", refuse)
    (tmp_path / "a.wav").write_bytes(wav(1_000))

    assert np.array_equal(read(flac(tmp_path, None)), EXPECTED)
    assert np.array_equal(read(tmp_path / "a.wav"), EXPECTED[:500])
    assert caplog.messages == [
        f"{tmp_path}/a.wav: the header says 1000 bytes of sound, but there are 6000; the rest is "
        "left out"
    ]


@pytest.mark.parametrize("form", ["AIFF", "AU", "CAF", "W64", "OGG", "MP3", "NIST", "VOC", "AVR"])
def test_other_formats_are_refused_by_name(tmp_path: Path, form: str) -> None:
    """No other of libsndfile's decoders sees a file, whatever it is called."""
    names = {"W64": "Wave64", "OGG": "Ogg"}
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, RATE, format=form)

    with pytest.raises(AudioFileError) as caught:
        WavFile(path)

    named = f"is {names.get(form, form)}, but only WAV and FLAC can be read; convert it"
    unnamed = "is not a sound file that can be read; convert it to WAV or FLAC"
    expected = unnamed if form in ("NIST", "VOC", "AVR") else named
    assert str(caught.value) == f"{path}: {expected}"


@pytest.mark.parametrize("codec", ["ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_lossy_codecs_in_wav_are_refused_by_name(tmp_path: Path, codec: str) -> None:
    """They leave out what a listener does not miss, and a model does."""
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, RATE, subtype=codec)

    with pytest.raises(AudioFileError) as caught:
        WavFile(path)

    assert str(caught.value) == (
        f"{path}: is WAV with the lossy encoding {codec}; record it again as 16-bit WAV or FLAC"
    )


def test_wav_named_otherwise_is_a_wav(tmp_path: Path) -> None:
    """The content says what a file is."""
    path = tmp_path / "a.raw"
    path.write_bytes(wav(N_BYTES))

    assert np.array_equal(read(path), EXPECTED)


@pytest.mark.parametrize("promised", [None, 0, 5])
def test_clip_of_days_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promised: int | None
) -> None:
    """A small FLAC file can hold days: what is taken as a whole has a limit, true header or not."""
    monkeypatch.setattr("edgeasd.capture.recording.wavfile.LONGEST_CLIP_S", 0.2)
    path = flac(tmp_path, promised)

    with pytest.raises(AudioFileError) as caught:
        read_clip(path)

    assert LONGEST_CLIP_S == 3_600.0
    assert str(caught.value).startswith(f"{path}: duration_s=0 must be at most 0 to read the ")


def test_part_of_a_file_is_that_of_the_whole(tmp_path: Path) -> None:
    """Ten seconds of a recording of days are read without holding it."""
    path = tmp_path / "a.wav"
    path.write_bytes(wav(N_BYTES))
    whole = read_clip(path)

    for first, end in ((0, 10), (1_500, 4_000), (5_990, 7_000), (9_000, 9_100)):
        part = read_part(path, 0, 16_000, first_sample=first, end_sample=end)
        assert np.array_equal(part, whole[first:end])


def test_refused_file_leaves_nothing_open(tmp_path: Path) -> None:
    """A folder of a thousand bad files does not use up what a process may open."""
    contents = [b"RIFF" + bytes(60), wav(N_BYTES)[:40], b"fLaC" + bytes(90), b"FORM" + bytes(90)]
    before = set(Path("/proc/self/fd").iterdir())

    for index, content in enumerate(contents):
        path = tmp_path / f"{index}.wav"
        path.write_bytes(content)
        with pytest.raises(AudioFileError):
            WavFile(path, 0)

    assert set(Path("/proc/self/fd").iterdir()) == before
