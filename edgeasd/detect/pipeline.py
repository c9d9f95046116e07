"""All stages from a block of sound to a score and an alarm event, in the order of the data flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeasd.common.resampler import Resampler
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
    """Return the output of *model* for each window of a clip, padded as in `clip_frames`."""
    window = model.document.window
    median = MedianFilter(window.median_frames)
    frames = clip_frames(samples, model.document.features, window)
    return [model.run(median.process(values)) for values in slice_windows(frames, window)]


@dataclass(frozen=True, slots=True)
class Detection:
    """A score and its consequences.

    Attributes:
        score: Score of the sound.
        event: Event by which the score started, updated or ended the alarm; usually None.
        signal: Defect of the sound behind the score.  A score of flat sound never reaches the
            alarm.
        alarm: Whether the alarm is raised after this score.
    """

    score: Score
    event: AlarmEvent | None
    signal: SignalState = "ok"
    alarm: bool = False


class Pipeline:
    """Turns blocks of sound into scores and alarm events.

    It is pure, so a replay of a recording gives the results of the live run.

    Args:
        model: Network and its geometry.
        section: Index of the machine's section in the model.
        alarm: Conditions under which scores raise and clear the alarm.
        source_rate: Sample rate of the blocks, hertz; None if they have the rate of the model.
        joins_gaps: Whether a score may rest on windows from both sides of a gap, as is right for
            clips of a machine that follow each other.  No single window spans a gap.

    Attributes:
        sample_rate: Rate of the model, in which scores and events count positions, hertz.
        gaps: Number of jumps in the sample positions so far.
        windows: Number of windows scored so far.
        alarm: Last stage; its state survives a gap.
        signal: Level and defects of the sound.
        control: Ends a run of the network that lasts too long.
    """

    def __init__(
        self,
        model: Model,
        section: int,
        alarm: AlarmSpec,
        *,
        source_rate: int | None = None,
        joins_gaps: bool = False,
    ) -> None:
        document = model.document
        self.sample_rate = document.features.sample_rate
        self._resampler = Resampler(source_rate or self.sample_rate, self.sample_rate)
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
        """Seconds of sound from the last window, or from the beginning, to the next window."""
        return self._n_due / self.sample_rate

    def process(self, block: AudioBlock) -> list[Detection]:
        """Return the detections that *block*, at the rate of the source, completes.

        Raises:
            ValueError: If *block* goes back in time.
        """
        return self._take(self._resampler.process(block))

    def flush(self) -> list[Detection]:
        """Return the detections that the end of the sound completes."""
        return self._take(self._resampler.flush())

    def reset(self) -> None:
        """Return to the state of a new pipeline; the counters stay."""
        self._restart()
        self._resampler.reset()
        self._scorer.reset()
        self.signal.reset()
        self._next_sample = None
        self.alarm.reset()

    def continue_from(self, before: Pipeline) -> None:
        """Take the place of *before*, which heard the same sound: go on with its alarm and counts.

        Windows and gaps that both have heard count once.
        """
        self.alarm.adopt(before.alarm.state, self.sample_rate / before.sample_rate)
        self.windows, self.gaps = before.windows, before.gaps

    def resume_alarm(self, raised_s: float) -> None:
        """Go on with an alarm that was raised *raised_s* seconds before the sound begins."""
        self.alarm.resume(-round(raised_s * self.sample_rate))

    def _take(self, block: AudioBlock) -> list[Detection]:
        """Return the detections that *block*, at the model's rate, completes."""
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

    def _detect(self, latest: AudioBlock) -> list[Detection]:
        """Return what the pending samples complete, of which *latest* came last; keep the rest."""
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
        # A dead microphone does not sound like the machine either; its state says so, not an alarm.
        event = None if signal == "flat_signal" else self.alarm.process(score)
        return Detection(score, event, signal, self.alarm.active)

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
