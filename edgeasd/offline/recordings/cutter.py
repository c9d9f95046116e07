"""Cuts a stream of sound into clips of ten seconds, and marks those unfit for learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.detect.levels import LevelMeter, Levels

CLIP_S = 10
"""Length of a clip, as in DCASE Task 2 and as long as a score of the daemon rests on."""

Flaw: TypeAlias = Literal["", "gap", "flat_signal", "too_quiet", "clipping"]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A clip, or the part of one before a gap.

    Attributes:
        samples: Shape ``(n_samples,)``; may be empty before a gap.
        flaw: Why nothing should be learned from it; empty for a clip that is fit.
        levels: Levels of the samples.
        n_lost: Samples lost after it, at the rate of the stream.
    """

    samples: Float32Array
    flaw: Flaw
    levels: Levels
    n_lost: int = 0


class Cutter:
    """Cuts a stream into consecutive clips, and starts a new clip after each gap.

    Args:
        sample_rate: Sample rate of the blocks, hertz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._n_clip = CLIP_S * sample_rate
        self._pieces: list[Float32Array] = []
        self._n_pending = 0
        self._next_sample: int | None = None

    @property
    def pending_s(self) -> float:
        """Seconds of sound in the unfinished clip."""
        return self._n_pending / self._sample_rate

    def process(self, block: AudioBlock) -> list[Stretch]:
        """Take *block*, and return the stretches that end in it."""
        done = []
        if self._next_sample not in (None, block.first_sample):
            done.append(self._end(block.first_sample - (self._next_sample or 0)))
        self._next_sample = block.first_sample + len(block.samples)
        start = 0
        while start < len(block.samples):
            stop = start + self._n_clip - self._n_pending
            self._pieces.append(block.samples[start:stop])
            self._n_pending += len(self._pieces[-1])
            if self._n_pending == self._n_clip:
                done.append(self._end())
            start = stop
        return done

    def _end(self, n_lost: int = 0) -> Stretch:
        samples = np.concatenate([np.empty(0, np.float32), *self._pieces])
        meter = LevelMeter(self._sample_rate)
        meter.process(AudioBlock(samples, 0))
        defect = meter.signal.defect_since(0)
        flaw: Flaw = "gap" if n_lost else "" if defect == "ok" else defect
        self._pieces, self._n_pending = [], 0
        return Stretch(samples, flaw, meter.levels, n_lost)
