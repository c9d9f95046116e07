"""A recording as a source of sound, or read as a whole."""

from __future__ import annotations

import math
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from edgeasd.capture.pace import Pace
from edgeasd.capture.recording.decoder import Decoder, no_sample
from edgeasd.common.errors import AudioFileError
from edgeasd.common.resampler import Resampler
from edgeasd.common.types import AudioBlock, Float32Array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_CLIP_S = 3_600.0
"""Longest recording that is read as a whole.  It is held in memory, and a FLAC file of 3 MB can
hold days."""


class WavFile:
    """A WAV or FLAC file as an `AudioSource`; any rate, one of any number of channels.

    Samples of 16-bit files are exactly their integer values divided by 32768.  A file that is cut
    short or damaged is delivered up to the damage, with a warning in the log.  A file longer than
    its header says is delivered completely, which is logged too.

    Args:
        path: Path of the file.
        channel: Channel of the file, counted from 0.
        paced: Whether to deliver in real time, from the first `read`.
        repeat: Whether to start again at the end, unless the file is damaged.

    Raises:
        AudioFileError: If there is no such file or channel, no sample, or the sample rate is out of
            bounds; the message names the remedy.
    """

    overruns = 0
    fault = ""
    hung = False
    drift_ppm = math.nan

    def __init__(
        self, path: Path, channel: int = 0, *, paced: bool = False, repeat: bool = False
    ) -> None:
        self._repeat = repeat
        self._lock = threading.Lock()  # closing a file during a read would crash the process
        self._position = 0
        self._decoder = Decoder(path, channel)
        self.sample_rate = self._decoder.sample_rate
        self._next = self._decoder.read()
        if self._next.size == 0:
            self._decoder.close()
            raise no_sample(path)
        self._pace = Pace(self.sample_rate)
        self._paced = paced

    @property
    def duration_s(self) -> float:
        """Seconds of sound according to the header; 0 if it does not say."""
        return self._decoder.duration_s

    @property
    def comment(self) -> str:
        """Comment in the file; may be empty."""
        return self._decoder.comment

    @property
    def ended(self) -> bool:
        """Whether the last block was read."""
        return self._next.size == 0

    @property
    def late_s(self) -> float:
        """Seconds for which sound that is due has waited to be read."""
        return self._pace.late_s(self._position) if self._paced else 0.0

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return the next block; `None` if it is not due in time, at the end, and after `close`."""
        due = not self._paced or self._pace.wait(self._position + self._next.size, timeout_s)
        with self._lock:
            if not due or self.ended or self._decoder.closed:
                return None
            block = AudioBlock(self._next, self._position)
            self._position += self._next.size
            self._next = self._decoder.read()
            if self.ended and self._repeat and not self._decoder.damaged:
                self._decoder.rewind()
                self._next = self._decoder.read()
        return block

    def close(self) -> None:
        """Close the file, and wake a waiting `read`."""
        self._pace.stop()
        with self._lock:
            self._decoder.close()


def blocks_at(
    path: Path, channel: int, sample_rate: int, longest_s: float = math.inf
) -> Iterator[AudioBlock]:
    """Yield the sound of a whole file at *sample_rate*.

    Raises:
        AudioFileError: For the reasons of `WavFile`, or if the file holds more than *longest_s*
            seconds, by its header or in fact.
    """
    with closing(WavFile(path, channel)) as source:
        _refuse_longer(path, source.duration_s, longest_s)
        resampler = Resampler(source.sample_rate, sample_rate)
        while (block := source.read(0.0)) is not None:
            _refuse_longer(path, block.first_sample / source.sample_rate, longest_s)
            yield resampler.process(block)
        yield resampler.flush()


def read_clip(path: Path, channel: int = 0, sample_rate: int = 16_000) -> Float32Array:
    """Return the sound of a whole file at *sample_rate*, equal to that of the stream.

    Returns:
        Shape ``(n_samples,)``, full scale is +-1.0.

    Raises:
        AudioFileError: For the reasons of `WavFile`, or if the file holds more than an hour.
    """
    blocks = blocks_at(path, channel, sample_rate, LONGEST_CLIP_S)
    return np.concatenate([block.samples for block in blocks])


def read_part(
    path: Path, channel: int, sample_rate: int, *, first_sample: int, end_sample: int
) -> Float32Array:
    """Return the samples of a file from one position to another, at *sample_rate*.

    Raises:
        AudioFileError: For the reasons of `WavFile`.
    """
    pieces = [np.empty(0, np.float32)]
    for block in blocks_at(path, channel, sample_rate):
        if block.first_sample >= end_sample:
            break
        start = max(0, first_sample - block.first_sample)
        pieces.append(block.samples[start : end_sample - block.first_sample])
    return np.concatenate(pieces)


def _refuse_longer(path: Path, duration_s: float, longest_s: float) -> None:
    if duration_s > longest_s:
        raise AudioFileError(
            f"{path}: duration_s={duration_s:.0f} must be at most {longest_s:.0f} to read the "
            "recording as a whole; cut it into pieces"
        )
