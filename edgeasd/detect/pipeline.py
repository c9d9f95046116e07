"""The stages from sound to alarm, in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeasd.common.types import AlarmEvent, AudioBlock, Float32Array, Score
from edgeasd.detect.alarm import Alarm, AlarmSpec
from edgeasd.detect.features import FeatureSpec, LogMel, log_mel
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.model.network import Model, RunControl
from edgeasd.detect.scoring import ClipScorer, NetworkOutput
from edgeasd.detect.signal import SignalMeter, SignalState
from edgeasd.detect.windows import WindowSlicer, WindowSpec, slice_windows


def clip_frames(samples: Float32Array, features: FeatureSpec, window: WindowSpec) -> Float32Array:
    """Return the log-mel frames of a whole clip, enough for at least one window.

    Args:
        samples: Shape ``(n_samples,)``; a clip shorter than a window is padded with zeros at its
            end, as in Cai et al. (DCASE 2021), section 3.
        features: Frame geometry.
        window: Window geometry.

    Returns:
        Shape ``(n_frames, n_mels)``, dB.
    """
    missing = max(0, features.n_samples(window.n_frames) - len(samples))
    return log_mel(np.pad(samples, (0, missing)), features)


def clip_outputs(model: Model, samples: Float32Array) -> list[NetworkOutput]:
    """Return what *model* says of each window of a clip; see `clip_frames`."""
    window = model.document.window
    median = MedianFilter(window.median_frames)
    frames = clip_frames(samples, model.document.features, window)
    return [model.run(median.process(values)) for values in slice_windows(frames, window)]


@dataclass(frozen=True, slots=True)
class Detection:
    """A score, and what came of it.

    Attributes:
        score: Score of the sound.
        event: What the alarm made of it, if anything.
        signal: What is wrong with the sound behind the score.  The alarm hears nothing of a score
            that rests on a flat signal.
    """

    score: Score
    event: AlarmEvent | None
    signal: SignalState = "ok"


class Pipeline:
    """Sound in, scores and alarm events out; pure, so that a replay gives the live run's results.

    Args:
        model: The network and its geometry.
        section: Index of the machine's section in the model.
        alarm: When a score becomes an alarm.
        joins_gaps: Whether scores go on after a gap, with windows of both of its sides, as is right
            for clips of a machine that follow each other.  No window holds sound of both sides.

    Attributes:
        sample_rate: Of the blocks that it takes, hertz.
        gaps: Number of jumps in the sample positions so far.
        windows: Number of windows scored so far.
        alarm: The last stage; its state survives a gap.
        signal: Level and defects of the sound.
        control: Ends a run of the network that lasts too long.
    """

    def __init__(
        self, model: Model, section: int, alarm: AlarmSpec, *, joins_gaps: bool = False
    ) -> None:
        document = model.document
        self.sample_rate = document.features.sample_rate
        self._model = model
        self.control = RunControl()
        self._joins_gaps = joins_gaps
        self._log_mel = LogMel(document.features)
        self._slicer = WindowSlicer(document.features, document.window)
        self._median = MedianFilter(document.window.median_frames)
        self._scorer = ClipScorer(model.scoring(section), document.scoring.clip_windows)
        self._window_samples = document.features.n_samples(document.window.n_frames)
        self._hop_samples = document.hop_samples
        self._next_sample: int | None = None
        self._pending: list[Float32Array] = []
        self._n_pending = 0
        self._n_due = self._window_samples
        self.signal = SignalMeter(self.sample_rate)
        self.alarm = Alarm(alarm)
        self.gaps = 0
        self.windows = 0

    @property
    def due_s(self) -> float:
        """Seconds from the last window, or from the beginning of the sound, to the next window."""
        return self._n_due / self.sample_rate

    def process(self, block: AudioBlock) -> list[Detection]:
        """Return what *block*, at the model's sample rate, completes.

        Raises:
            ValueError: If *block* goes back in time.
        """
        if self._next_sample is not None and block.first_sample != self._next_sample:
            if block.first_sample < self._next_sample:
                raise ValueError(
                    f"first_sample={block.first_sample} must be at least {self._next_sample}"
                )
            self.gaps += 1
            self._restart()
        self._next_sample = block.first_sample + len(block.samples)
        self._pending.append(block.samples)
        self._n_pending += len(block.samples)
        if self._n_pending < self._n_due:
            self.signal.process(block)
            return []
        # Frames are made when they complete a window: together they cost half as much.
        return self._detect(block)

    def reset(self) -> None:
        """Return to the state of a new pipeline; the counters stay."""
        self._restart()
        self._scorer.reset()
        self.signal.reset()
        self._next_sample = None
        self.alarm.reset()

    def _detect(self, latest: AudioBlock) -> list[Detection]:
        """Return what the pending samples, *latest* the last, complete; keep the rest of them."""
        samples = np.concatenate(self._pending)
        n_used = self._n_due + (len(samples) - self._n_due) // self._hop_samples * self._hop_samples
        first_sample = (self._next_sample or 0) - len(samples)
        self._pending = [samples[n_used:].copy()]
        self._n_pending = len(self._pending[0])
        self._n_due = self._hop_samples
        block = AudioBlock(samples[:n_used], first_sample)
        detections = []
        n_judged = 0
        for window in self._slicer.process(self._log_mel.process(block)):
            self.windows += 1
            output = self._model.run(self._median.process(window.values), self.control)
            score = self._scorer.process(window, output)
            # A score is judged by its own sound: what comes after it may not have been heard yet.
            end = window.first_sample + window.n_samples - latest.first_sample
            self.signal.process(_part(latest, n_judged, end))
            n_judged = end
            if score is not None:
                detections.append(self._decide(score))
        self.signal.process(_part(latest, n_judged, len(latest.samples)))
        return detections

    def _decide(self, score: Score) -> Detection:
        signal = self.signal.defect_since(score.first_sample)
        # A dead microphone sounds unlike the machine too.  It is told as such, not as an alarm.
        event = None if signal == "flat_signal" else self.alarm.process(score)
        return Detection(score, event, signal)

    def _restart(self) -> None:
        self._pending = []
        self._n_pending = 0
        self._n_due = self._window_samples
        self._log_mel.reset()
        self._slicer.reset()
        if not self._joins_gaps:
            self._scorer.reset()


def _part(block: AudioBlock, start: int, stop: int) -> AudioBlock:
    return AudioBlock(block.samples[start:stop], block.first_sample + start)
