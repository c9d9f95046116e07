"""Measures levels of sound for people who place a microphone or set its gain."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from edgeasd.common.types import CLIP_LEVEL, AudioBlock, Float32Array
from edgeasd.detect.signal import LOUDER, WORDS, SignalMeter, SignalState, dbfs

_SPANS_PER_S = 8
"""Spans of 125 ms, the time constant "fast" of sound level meters (IEC 61672-1)."""
_MEMORY_S = 60
"""Only the last minute counts, so that the effect of moving the microphone shows soon."""
_HOLD_S = 2
"""Seconds for which a peak is shown."""
_FLOOR_PERCENTILE = 10.0
"""Percentile of the spans that gives the noise floor."""
_QUIET_DBFS = -60.0
"""Below this level a 16-bit converter leaves less than six bits for the machine, so the gain or the
place can be improved.  Whether sound is too quiet to be used is decided by `edgeasd.detect.signal`.
"""


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of some sound, dB re full scale; minus infinity for silence.

    Attributes:
        rms_dbfs: Root mean square without the constant part.
        peak_dbfs: Largest magnitude.
        floor_dbfs: Noise floor: the root mean square that a tenth of the spans of 125 ms stay
            below.
        n_samples: Number of samples.
        n_clipped: Number of samples at full scale.
        signal: Worst defect of the sound.
    """

    rms_dbfs: float
    peak_dbfs: float
    floor_dbfs: float
    n_samples: int
    n_clipped: int
    signal: SignalState = "ok"

    @property
    def verdict(self) -> str:
        """Verdict in words: ``good``, or what is wrong and how to correct it."""
        if self.n_samples == 0:
            return "no sound: check that the microphone is connected"
        if self.signal != "ok":
            return f"{self.signal}: {WORDS[self.signal]}"
        if self.rms_dbfs < _QUIET_DBFS:
            return f"quiet: {LOUDER}"
        return "good"


@dataclass(frozen=True, slots=True)
class _Span:
    power: float
    peak: float
    n_clipped: int


class LevelMeter:
    """Measures the levels of a stream of sound over the last minute, in spans of 125 ms.

    Args:
        sample_rate: Sample rate of the blocks, hertz.

    Attributes:
        signal: Meter of the defects of the sound, by the rule of the daemon.
        gaps: Number of gaps so far.
        n_samples: Number of samples so far.
    """

    def __init__(self, sample_rate: int) -> None:
        self.signal = SignalMeter(sample_rate)
        self._sample_rate = sample_rate
        self._span = max(1, sample_rate // _SPANS_PER_S)
        self._pending = np.empty(0, np.float32)
        self._next_sample: int | None = None
        self._spans: deque[_Span] = deque(maxlen=_MEMORY_S * _SPANS_PER_S)
        self.gaps = 0
        self.n_samples = 0

    def process(self, block: AudioBlock) -> None:
        """Take *block*; a span that a gap cuts short does not count."""
        self.signal.process(block)
        if self._next_sample not in (None, block.first_sample):
            self.gaps += 1
            self._pending = self._pending[:0]
        self._next_sample = block.first_sample + len(block.samples)
        self.n_samples += len(block.samples)
        samples = np.concatenate([self._pending, block.samples])
        n_spans = len(samples) // self._span
        for span in samples[: n_spans * self._span].reshape(n_spans, self._span):
            self._spans.append(_measure(span))
        self._pending = samples[n_spans * self._span :]

    @property
    def levels(self) -> Levels:
        """Levels of the last minute."""
        return replace(self._levels(list(self._spans)), signal=self._defect())

    @property
    def now(self) -> Levels:
        """Levels of the latest span."""
        return self._levels(list(self._spans)[-1:])

    @property
    def hold_dbfs(self) -> float:
        """Highest peak of the last two seconds, dB re full scale."""
        return self._levels(list(self._spans)[-_HOLD_S * _SPANS_PER_S :]).peak_dbfs

    def _defect(self) -> SignalState:
        """Return the defect of the sound now; clipping is reported for a minute."""
        n_judged = self.signal.n_judged
        if 0 < n_judged == self.signal.n_defective["flat_signal"]:
            return "flat_signal"  # too short for a state, but all sound so far is flat
        if self.signal.state != "ok":
            return self.signal.state
        since = (self._next_sample or 0) - _MEMORY_S * self._sample_rate
        was_clipped = self.signal.defect_since(since, among=("clipping",)) != "ok"
        return "clipping" if was_clipped else "ok"

    def _levels(self, spans: list[_Span]) -> Levels:
        if not spans:
            return Levels(-math.inf, -math.inf, -math.inf, 0, 0)
        powers = [span.power for span in spans]
        return Levels(
            rms_dbfs=dbfs(math.sqrt(sum(powers) / len(powers))),
            peak_dbfs=dbfs(max(span.peak for span in spans)),
            floor_dbfs=dbfs(math.sqrt(np.percentile(powers, _FLOOR_PERCENTILE))),
            n_samples=len(spans) * self._span,
            n_clipped=sum(span.n_clipped for span in spans),
        )


def _measure(span: Float32Array) -> _Span:
    magnitude = np.abs(span)
    return _Span(
        power=float(np.var(span, dtype=np.float64)),
        peak=float(magnitude.max()),
        n_clipped=int(np.count_nonzero(magnitude >= CLIP_LEVEL)),
    )
