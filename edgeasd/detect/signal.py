"""Is there a living microphone behind the samples?  Level, flat, quiet and clipped signal."""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

import numpy as np

from edgeasd.detect.levels import dbfs
from edgeasd.stream import CLIP_LEVEL, INT16_FULL_SCALE, AudioBlock, Float32Array

SignalState = Literal["ok", "flat_signal", "too_quiet", "clipping"]

_SPANS_PER_S = 4
_FLAT_SPANS = 8
"""Two seconds: long enough to be no accident, short enough to be told before anyone wonders."""
_FLAT_RANGE = 1.0 / INT16_FULL_SCALE
"""One step of a 16-bit converter: less does not come out of a microphone that is connected."""
_QUIET_POWER = 1e-8
"""-80 dBFS is 3 steps of a 16-bit converter.  The noise of rounding, at -101 dBFS and alike in all
bands, then hides what the machine does in the high ones, where most machines are 20 to 40 dB weaker
than over all."""
_QUIET_SPANS = 40
"""Ten seconds, what a score rests on."""
_CLIP_SHARE = 0.01
"""Share of clipped samples from which the sound is distorted and not merely loud once."""


class SignalMeter:
    """Watches samples in spans of a quarter of a second, counted from the start of the stream.

    Args:
        sample_rate: Of the blocks, hertz.

    Attributes:
        level_dbfs: RMS of the last second, dB re full scale; minus infinity if nothing was heard.
        state: What is wrong with the signal, if anything.
        last_flat_sample: Position just after the latest span without any signal, 0 if none was.
            A score that rests on such a span says nothing about the machine.
    """

    def __init__(self, sample_rate: int) -> None:
        self._span = max(1, sample_rate // _SPANS_PER_S)
        self._pending: list[Float32Array] = []
        self._n_pending = 0
        self._powers: deque[float] = deque(maxlen=_SPANS_PER_S)
        self._clipped: deque[float] = deque(maxlen=_SPANS_PER_S)
        self._n_flat = 0
        self._n_quiet = 0
        self.last_flat_sample = 0
        # Plain values: other threads look at them while this one counts on.
        self.level_dbfs = -math.inf
        self.state: SignalState = "ok"

    def process(self, block: AudioBlock) -> None:
        """Take in *block*, which continues the one before it."""
        self._pending.append(block.samples)
        self._n_pending += len(block.samples)
        n_spans = self._n_pending // self._span
        if n_spans == 0:
            return
        samples = np.concatenate(self._pending)
        end = block.first_sample + len(block.samples)
        for index in range(n_spans):
            self._process_span(samples[index * self._span : (index + 1) * self._span])
            if self._n_flat:
                self.last_flat_sample = end - len(samples) + (index + 1) * self._span
        self._pending = [samples[n_spans * self._span :].copy()]
        self._n_pending = len(self._pending[0])

    def reset(self) -> None:
        """Forget the stream."""
        self._pending = []
        self._n_pending = 0
        self._powers.clear()
        self._clipped.clear()
        self._n_flat = 0
        self._n_quiet = 0
        self.last_flat_sample = 0
        self.level_dbfs = -math.inf
        self.state = "ok"

    def _process_span(self, span: Float32Array) -> None:
        low, high = float(span.min()), float(span.max())
        self._n_flat = self._n_flat + 1 if high - low <= _FLAT_RANGE else 0
        span_power = float(np.mean(np.square(span, dtype=np.float64)))
        self._powers.append(span_power)
        # What a converter adds to all samples alike is no sound.
        sound_power = span_power - float(np.mean(span, dtype=np.float64)) ** 2
        self._n_quiet = self._n_quiet + 1 if sound_power < _QUIET_POWER else 0
        loud = max(high, -low) >= CLIP_LEVEL
        self._clipped.append(float(np.mean(np.abs(span) >= CLIP_LEVEL)) if loud else 0.0)
        power = sum(self._powers) / len(self._powers)
        self.level_dbfs = dbfs(math.sqrt(power))
        if self._n_flat >= _FLAT_SPANS:
            self.state = "flat_signal"
        elif self._n_quiet >= _QUIET_SPANS:
            self.state = "too_quiet"
        else:
            is_clipped = sum(self._clipped) / len(self._clipped) >= _CLIP_SHARE
            self.state = "clipping" if is_clipped else "ok"
