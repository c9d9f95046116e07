"""Scores of normal sound by the daemon's own pipeline, from recordings or live."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeasd.baseline.alarm_rate import NormalScores
from edgeasd.capture.resampler import Resampler
from edgeasd.capture.source import AudioSource
from edgeasd.common.errors import AudioDeviceError
from edgeasd.common.text import rough_time
from edgeasd.common.types import AudioBlock
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Detection, Pipeline
from edgeasd.detect.signal import Defect
from edgeasd.offline.recordings.recordings import Progress

_READ_TIMEOUT_S = 0.5
_SILENT_AFTER_S = 10.0
_N_PATIENCE = 60
"""Times that: who is away for hours learns soon enough that nothing comes any more."""
_NEVER = AlarmSpec(math.inf, math.inf)


@dataclass
class ScoreCollector:
    """Runs of scores without a gap, of one model and section.

    Args:
        model: With its references as they are to be.
        section: Index of the section.
        progress: Is told of the sound that was scored.

    Attributes:
        runs: Of all streams so far.
        defective_s: Seconds of them with each defect.
    """

    model: Model
    section: int
    progress: Progress = lambda _: None
    runs: list[list[float]] = field(default_factory=list)
    defective_s: dict[Defect, float] = field(default_factory=dict)
    # Position at which the next score of the run is to begin; -1 begins a run.
    _expected: int = field(default=-1, init=False)

    def add(self, blocks: Iterable[AudioBlock], *, of_clips: bool = False) -> None:
        """Score a stream, at the model's rate; what rests on flat sound is left out.

        What *blocks* raises leaves all scores so far.

        Args:
            blocks: The stream.
            of_clips: Whether a gap is a seam between clips, of which scores may rest on several, as
                else clips of ten seconds had one each; of live sound it ends a run, as in the
                daemon.
        """
        pipeline = Pipeline(self.model, self.section, _NEVER, joins_gaps=of_clips)
        self._expected = -1
        try:
            for block in blocks:
                self._take(pipeline.process(block), of_clips=of_clips)
                self.progress(len(block.samples) / pipeline.sample_rate)
        finally:
            for defect, n_samples in pipeline.signal.n_defective.items():
                before = self.defective_s.get(defect, 0.0)
                self.defective_s[defect] = before + n_samples / pipeline.sample_rate

    def _take(self, detections: Sequence[Detection], *, of_clips: bool) -> None:
        for detection in detections:
            score = detection.score
            if detection.signal == "flat_signal":
                self._expected = -1
                continue
            follows = score.first_sample == self._expected
            if self._expected < 0 or not (of_clips or follows):
                self.runs.append([])
            self.runs[-1].append(score.value)
            self._expected = score.first_sample + self.model.document.hop_samples

    @property
    def scores(self) -> NormalScores:
        """All scores so far."""
        document = self.model.document
        return NormalScores(
            [np.array(run) for run in self.runs],
            document.hop_samples,
            document.score_samples,
            document.features.sample_rate,
        )


def live_blocks(
    source: AudioSource,
    sample_rate: int,
    duration_s: float,
    tell: Callable[[str], None] = lambda _: None,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[AudioBlock]:
    """Yield what *source* delivers for *duration_s* seconds of sound, at *sample_rate*.

    A source that is silent is waited for: a cable comes off and is put back.

    Args:
        source: Source of the sound.
        sample_rate: Of the blocks, hertz.
        duration_s: Seconds of sound.
        tell: Is told that there is no sound, and that it is back.
        until: Whether to end before.

    Raises:
        AudioDeviceError: If no sound comes for ten minutes.
    """
    resampler = Resampler(source.sample_rate, sample_rate)
    wanted = round(duration_s * source.sample_rate)
    heard = 0
    sound_at = time.monotonic()
    is_told = False
    while heard < wanted and not source.ended and not until():
        block = source.read(_READ_TIMEOUT_S)
        silent_s = time.monotonic() - sound_at
        if block is not None:
            if is_told:
                tell(f"sound is back after {rough_time(silent_s)}")
                is_told = False
            sound_at = time.monotonic()
            heard += len(block.samples)
            yield resampler.process(block)
        elif silent_s > _SILENT_AFTER_S:
            reason = source.fault or "the source delivers no sound"
            if silent_s > _N_PATIENCE * _SILENT_AFTER_S:
                raise AudioDeviceError(
                    f"no sound for {rough_time(silent_s)} ({reason}); call again to continue"
                )
            if not is_told:
                tell(f"no sound for {_SILENT_AFTER_S:g} s ({reason}); waiting for it")
                is_told = True
