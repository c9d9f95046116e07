"""Is there a living microphone behind the samples?  The one rule for flat, quiet and clipped sound.

Sound is judged in spans of a quarter of a second, counted from the start of the stream and anew
from each gap, so that nothing depends on how it was cut into blocks:

- A span is *flat* if its root mean square, without the constant part, is below one step of a 16-bit
  converter: a dead microphone, a muted input, a converter that hears itself.  No score that rests
  on one speaks for an alarm, nothing is learned from one, and two seconds of them are a state.
- Sound is *too quiet* once ten seconds of spans were below -80 dBFS.
- Sound is *clipping* where a hundredth of a second's samples are at full scale.
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
"""The worse goes before the less bad: what hides the machine, then what distorts it."""

WORDS: Mapping[Defect, str] = MappingProxyType(
    {
        "flat_signal": "the sound has no signal at all; is the microphone connected?",
        "too_quiet": "the sound is hardly above the steps of the converter; turn up the gain of "
        "the microphone or move it closer",
        "clipping": "the sound is clipped; turn down the gain of the microphone",
    }
)
"""What is wrong and what to do, the same wherever it is told."""

_SPANS_PER_S = 4
_FLAT_POWER = INT16_FULL_SCALE**-2
"""One step of a 16-bit converter, -90.3 dBFS: less does not come out of a microphone that is
connected, and what toggles between two steps or rounds to them has half of it."""
_FLAT_SPANS = 8
"""Two seconds: long enough to be no accident, short enough to be told before anyone wonders."""
_QUIET_POWER = 1e-8
"""-80 dBFS is 3 steps of a 16-bit converter.  The noise of rounding, at -101 dBFS and alike in all
bands, then hides what the machine does in the high ones, where most machines are 20 to 40 dB weaker
than over all."""
_QUIET_SPANS = 40
"""Ten seconds, what a score rests on."""
_CLIP_SHARE = 0.01
"""Share of clipped samples from which the sound is distorted and not merely loud once."""
_HOLD_S: Mapping[Defect, int] = MappingProxyType(
    {"flat_signal": 2, "too_quiet": 10, "clipping": 10}
)
"""Seconds of sound without a defect that end its state: as long as flat and quiet sound take to be
told.  A press whose strokes clip is one state, not one a stroke."""


class SignalMeter:
    """Watches a stream of sound; a span that a gap cuts short does not count.

    Args:
        sample_rate: Of the blocks, hertz.

    Attributes:
        span: Samples that are judged together.
        level_dbfs: RMS of the last second, dB re full scale; minus infinity if nothing was heard.
        state: What is wrong with the signal, if anything; it holds until that was over for a while.
        n_judged: Samples in whole spans so far.
        n_defective: Samples in spans that are flat, or make the sound too quiet or clipping.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self.span = max(1, sample_rate // _SPANS_PER_S)
        self._pending: list[Float32Array]
        self._n_pending: int
        self._end: int
        self.reset()

    def process(self, block: AudioBlock) -> None:
        """Take in *block*."""
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
        """Return the worst of what was wrong with the sound from *first_sample* on.

        One flat span is enough: what rests on it says nothing about the machine.
        """
        return next((each for each in among if self._latest[each] > first_sample), "ok")

    def reset(self) -> None:
        """Forget the stream."""
        self._pending = []
        self._n_pending = 0
        # Position just after the last whole span, and after the latest one with each defect.
        self._end = 0
        self._latest: dict[Defect, float] = dict.fromkeys(DEFECTS, -math.inf)
        # The same of the latest span that made, or prolonged, the state.
        self._told: dict[Defect, float] = dict.fromkeys(DEFECTS, -math.inf)
        self._powers: deque[float] = deque(maxlen=_SPANS_PER_S)
        self._clipped: deque[float] = deque(maxlen=_SPANS_PER_S)
        self._n_flat = 0
        self._n_quiet = 0
        self.n_judged = 0
        self.n_defective: dict[Defect, int] = dict.fromkeys(DEFECTS, 0)
        # Plain values: other threads look at them while this one counts on.
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
        """Yield what is wrong with the sound up to the end of *span*, and with *span* itself."""
        # What a converter adds to all samples alike is no sound.
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
    """Return what is wrong with a stretch of sound, as `SignalMeter` says at its end."""
    meter = SignalMeter(sample_rate)
    meter.process(AudioBlock(samples, 0))
    return meter.defect_since(0)


def joined(blocks: Iterable[AudioBlock], at_least: int | None = None) -> Iterator[AudioBlock]:
    """Yield *blocks* joined up to a gap, and up to *at_least* so many samples if that is said."""
    pending = [np.empty(0, np.float32)]
    first_sample = n_pending = 0
    for block in blocks:
        is_gap = block.first_sample != first_sample + n_pending
        if is_gap or (at_least is not None and n_pending >= at_least):
            yield AudioBlock(np.concatenate(pending), first_sample)
            pending, first_sample, n_pending = [pending[0]], block.first_sample, 0
        pending.append(block.samples)
        n_pending += len(block.samples)
    yield AudioBlock(np.concatenate(pending), first_sample)


def defect_notes(seconds: Mapping[Defect, float]) -> list[str]:
    """Return in words how many *seconds* of normal sound had which defect, and what became of it.

    Flat sound is nobody's normal sound.  What is too quiet or clipped is what the daemon would hear
    as well: it counts, and is told.
    """
    told = [(seconds.get(each, 0.0), each) for each in DEFECTS]
    return [
        f"{math.ceil(duration_s)} s of flat sound left out; is the microphone connected?"
        if each == "flat_signal"
        else f"warning: for {math.ceil(duration_s)} s {WORDS[each]}"
        for duration_s, each in told
        if duration_s
    ]


def sounding(blocks: Iterable[AudioBlock], meter: SignalMeter) -> Iterator[AudioBlock]:
    """Yield *blocks* without their flat spans: a gap takes the place of each.

    Args:
        blocks: A stream; how it is cut makes no difference to what is left out.
        meter: A new one for their rate; it says in the end what was left out.
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
    """Return *amplitude* in dB re full scale; minus infinity of nothing."""
    return 20.0 * math.log10(amplitude) if amplitude > 0.0 else -math.inf
