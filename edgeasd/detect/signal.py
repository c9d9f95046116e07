"""Detects flat, too quiet and clipped sound: the only rule for them, live and in recordings.

Sound is judged in spans of a quarter of a second.  Spans are counted from the start of the stream
and again from each gap, so that nothing depends on how the sound was cut into blocks:

- A span is *flat* if its root mean square, without the constant part, is below one step of a 16-bit
  converter: a dead microphone, a muted input, or only the noise of the converter.  Scores that rest
  on a flat span raise no alarm, nothing is learned from it, and two seconds of flat sound are a
  state.
- Sound is *too quiet* once ten seconds of spans were below -80 dBFS.
- Sound is *clipping* if 1 % of the samples of the last second are at full scale.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from edgeasd.common.types import CLIP_LEVEL, INT16_FULL_SCALE, AudioBlock, Float32Array

Defect: TypeAlias = Literal["flat_signal", "too_quiet", "clipping"]
SignalState: TypeAlias = Literal["ok", "flat_signal", "too_quiet", "clipping"]

DEFECTS: tuple[Defect, ...] = ("flat_signal", "too_quiet", "clipping")
"""All defects, the worst first: what hides the machine comes before what distorts it."""

LOUDER = "turn up the gain of the microphone or move it closer"
"""Remedy for quiet sound."""

WORDS: Mapping[Defect, str] = MappingProxyType(
    {
        "flat_signal": "the sound has no signal at all; is the microphone connected?",
        "too_quiet": f"the sound is barely above the quantisation noise; {LOUDER}",
        "clipping": "the sound is clipped; turn down the gain of the microphone",
    }
)
"""What is wrong and what to do, in the same words wherever it is reported."""

_SPANS_PER_S = 4
_FLAT_POWER = INT16_FULL_SCALE**-2
"""Power of one step of a 16-bit converter, -90.3 dBFS.  A connected microphone gives more, and a
signal that only toggles between two steps has half the amplitude."""
_FLAT_SPANS = 8
"""Flat spans that make a state: two seconds, long enough not to be a coincidence."""
_QUIET_POWER = 1e-8
"""Power of -80 dBFS, 3 steps of a 16-bit converter.  Quantisation noise, at -101 dBFS and equal in
all bands, then hides the machine in the high bands, where most machines are 20 to 40 dB weaker than
in total."""
_QUIET_SPANS = 40
"""Quiet spans that make a state: ten seconds, as long as a score rests on."""
_CLIP_SHARE = 0.01
"""Share of clipped samples in the last second from which the sound counts as distorted."""
_HOLD_S: Mapping[Defect, int] = MappingProxyType(
    {"flat_signal": 2, "too_quiet": 10, "clipping": 10}
)
"""Seconds without a defect that end its state, as long as the defect takes to become a state.  So a
press whose strokes clip has one state, not one for each stroke."""


class SignalMeter:
    """Judges a stream of sound; a span that a gap cuts short does not count.

    Args:
        sample_rate: Sample rate of the blocks, hertz.

    Attributes:
        span: Number of samples that are judged together.
        level_dbfs: RMS of the last second, dB re full scale; minus infinity before any sound.
        state: Worst defect of the signal; it ends some seconds after the defect does.
        n_judged: Samples in whole spans so far.
        n_defective: For each defect, samples in spans that have it.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self.span = max(1, sample_rate // _SPANS_PER_S)
        self._pending: list[Float32Array]
        self._n_pending: int
        self._end: int
        self.reset()

    def process(self, block: AudioBlock) -> None:
        """Take *block*."""
        if block.first_sample != self._end + self._n_pending:
            self._pending, self._n_pending = [], 0
            self._end = block.first_sample
        self._pending.append(block.samples)
        self._n_pending += len(block.samples)
        n_spans = self._n_pending // self.span
        if n_spans == 0:
            return
        samples = np.concatenate(self._pending)
        for span in samples[: n_spans * self.span].reshape(n_spans, self.span):
            self._process_span(span)
        self._pending = [samples[n_spans * self.span :].copy()]
        self._n_pending = len(self._pending[0])

    def defect_since(self, first_sample: int, among: Sequence[Defect] = DEFECTS) -> SignalState:
        """Return the worst defect of the sound from *first_sample* on.

        A single flat span counts, because a score that rests on it says nothing about the machine.
        """
        return next((each for each in among if self._latest[each] > first_sample), "ok")

    def reset(self) -> None:
        """Forget the stream."""
        self._pending = []
        self._n_pending = 0
        # Position just after the last whole span, and just after the last span with each defect.
        self._end = 0
        self._latest: dict[Defect, float] = dict.fromkeys(DEFECTS, -math.inf)
        # Position just after the last span that started or prolonged the state of each defect.
        self._told: dict[Defect, float] = dict.fromkeys(DEFECTS, -math.inf)
        self._powers: deque[float] = deque(maxlen=_SPANS_PER_S)
        self._clipped: deque[float] = deque(maxlen=_SPANS_PER_S)
        self._n_flat = 0
        self._n_quiet = 0
        self.n_judged = 0
        self.n_defective: dict[Defect, int] = dict.fromkeys(DEFECTS, 0)
        # Plain values, because other threads read them meanwhile.
        self.level_dbfs = -math.inf
        self.state: SignalState = "ok"

    def _process_span(self, span: Float32Array) -> None:
        self._end += self.span
        self.n_judged += self.span
        self._powers.append(float(np.mean(np.square(span, dtype=np.float64))))
        self.level_dbfs = dbfs(math.sqrt(sum(self._powers) / len(self._powers)))
        for defect in self._defects_of(span):
            self._latest[defect] = self._end
            self.n_defective[defect] += self.span
            if defect != "flat_signal" or self._n_flat >= _FLAT_SPANS:
                self._told[defect] = self._end
        self.state = next((each for each in DEFECTS if self._holds(each)), "ok")

    def _defects_of(self, span: Float32Array) -> Iterator[Defect]:
        """Yield the defects of the sound up to the end of *span*."""
        # Variance, because a constant offset from the converter is no sound.
        power = float(np.var(span, dtype=np.float64))
        self._n_flat = self._n_flat + 1 if power < _FLAT_POWER else 0
        self._n_quiet = self._n_quiet + 1 if power < _QUIET_POWER else 0
        loud = max(float(span.max()), -float(span.min())) >= CLIP_LEVEL
        self._clipped.append(float(np.mean(np.abs(span) >= CLIP_LEVEL)) if loud else 0.0)
        if self._n_flat:
            yield "flat_signal"
        elif self._n_quiet >= _QUIET_SPANS:
            yield "too_quiet"
        if loud and sum(self._clipped) / len(self._clipped) >= _CLIP_SHARE:
            yield "clipping"

    def _holds(self, defect: Defect) -> bool:
        return self._end - self._told[defect] < _HOLD_S[defect] * self._sample_rate


def find_defect(samples: Float32Array, sample_rate: int) -> SignalState:
    """Return the worst defect of *samples*, by the rule of `SignalMeter`."""
    meter = SignalMeter(sample_rate)
    meter.process(AudioBlock(samples, 0))
    return meter.defect_since(0)


def defect_notes(seconds: Mapping[Defect, float]) -> list[str]:
    """Return in words how many *seconds* of normal sound had which defect, and what was done.

    Flat sound is left out.  Sound that is too quiet or clipped is used, with a warning, because the
    daemon would hear it too.
    """
    told = [(seconds.get(each, 0.0), each) for each in DEFECTS]
    return [
        f"{math.ceil(duration_s)} s of flat sound left out; is the microphone connected?"
        if each == "flat_signal"
        else f"warning: for {math.ceil(duration_s)} s {WORDS[each]}"
        for duration_s, each in told
        if duration_s
    ]


def without_flat(blocks: Iterable[AudioBlock], meter: SignalMeter) -> Iterator[AudioBlock]:
    """Yield *blocks* with a gap in place of each flat span.

    Args:
        blocks: A stream; what is left out does not depend on how it is cut.
        meter: A new meter for their sample rate; it counts what was left out.
    """
    pending, start = np.empty(0, np.float32), 0
    for block in blocks:
        if block.first_sample != start + len(pending):
            yield AudioBlock(pending, start)
            pending, start = pending[:0], block.first_sample
        pending = np.concatenate((pending, block.samples))
        while len(pending) >= meter.span:
            span = AudioBlock(pending[: meter.span], start)
            pending, start = pending[meter.span :], start + meter.span
            meter.process(span)
            if meter.defect_since(span.first_sample) != "flat_signal":
                yield span
    yield AudioBlock(pending, start)


def dbfs(amplitude: float) -> float:
    """Return *amplitude* in dB re full scale; minus infinity for zero."""
    return 20.0 * math.log10(amplitude) if amplitude > 0.0 else -math.inf
