"""A stream of sound to clips of ten seconds, and to stretches that are not fit to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from edgeasd.detect.levels import LevelMeter, Levels
from edgeasd.detect.signal import SignalMeter, SignalState
from edgeasd.stream import AudioBlock, Float32Array

CLIP_S = 10
"""As in DCASE Task 2, and as many seconds as a score of the daemon rests on."""

_STEPS_PER_S = 8
"""Twice as often as the signal's state may change."""

Flaw: TypeAlias = Literal["", "gap", "flat_signal", "too_quiet", "clipping"]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A clip, or as much of one as there was before a gap.

    Attributes:
        samples: Shape ``(n_samples,)``; may be empty if it ends in a gap.
        flaw: Why nothing should be learned from it; empty of a clip that is fit.
        levels: Of the samples.
        n_lost: Samples lost after it, at the rate of the stream.
    """

    samples: Float32Array
    flaw: Flaw
    levels: Levels
    n_lost: int = 0


class Cutter:
    """Cuts a stream into clips that follow each other, anew after each gap.

    Args:
        sample_rate: Of the blocks, hertz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._n_clip = CLIP_S * sample_rate
        self._step = max(1, sample_rate // _STEPS_PER_S)
        self._pieces: list[Float32Array] = []
        self._n_pending = 0
        self._next_sample: int | None = None
        self._signal = SignalMeter(sample_rate)
        self._worst: SignalState = "ok"

    @property
    def pending_s(self) -> float:
        """Seconds of the clip that is not full yet."""
        return self._n_pending / self._sample_rate

    def process(self, block: AudioBlock) -> list[Stretch]:
        """Take in *block*, and return the stretches that it ends."""
        done = []
        if self._next_sample not in (None, block.first_sample):
            done.append(self._end("gap", block.first_sample - (self._next_sample or 0)))
            self._signal.reset()
        self._next_sample = block.first_sample + len(block.samples)
        start = 0
        while start < len(block.samples):
            # To the end of the clip at most, and short enough that no state is overlooked.
            stop = start + min(self._n_clip - self._n_pending, self._step)
            self._take(AudioBlock(block.samples[start:stop], block.first_sample + start))
            if self._n_pending == self._n_clip:
                done.append(self._end("" if self._worst == "ok" else self._worst))
            start = stop
        return done

    def _take(self, block: AudioBlock) -> None:
        self._pieces.append(block.samples)
        self._n_pending += len(block.samples)
        self._signal.process(block)
        if self._signal.state != "ok":
            self._worst = self._signal.state

    def _end(self, flaw: Flaw, n_lost: int = 0) -> Stretch:
        samples = np.concatenate([np.empty(0, np.float32), *self._pieces])
        meter = LevelMeter(self._sample_rate)
        meter.process(AudioBlock(samples, 0))
        self._pieces, self._n_pending, self._worst = [], 0, "ok"
        return Stretch(samples, flaw, meter.levels, n_lost)
