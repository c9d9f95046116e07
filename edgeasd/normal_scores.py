"""Scores of normal sound by the daemon's own pipeline, from recordings or live."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from edgeasd.capture.resampler import Resampler
from edgeasd.capture.source import AudioSource
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.calibration import NormalScores
from edgeasd.detect.model import Model
from edgeasd.detect.pipeline import Pipeline
from edgeasd.detect.signal import Defect
from edgeasd.errors import AudioDeviceError
from edgeasd.stream import AudioBlock, Float64Array

_READ_TIMEOUT_S = 0.5
_SILENT_AFTER_S = 10.0
_NEVER = AlarmSpec(math.inf, math.inf)

Progress = Callable[[float], None]
"""Takes the seconds of sound that were scored since the last call."""


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
    runs: list[Float64Array] = field(default_factory=list)
    defective_s: dict[Defect, float] = field(default_factory=dict)

    def add(self, blocks: Iterable[AudioBlock], *, of_clips: bool = True) -> None:
        """Score a stream, at the model's rate; what rests on flat sound is left out.

        Args:
            blocks: The stream.
            of_clips: Whether a gap is a seam between clips, of which scores may rest on several, as
                else clips of ten seconds had one each; of live sound it ends a run, as in the
                daemon.
        """
        pipeline = Pipeline(self.model, self.section, _NEVER, joins_gaps=of_clips)
        run: list[float] = []
        expected = -1
        for block in blocks:
            for detection in pipeline.process(block):
                score = detection.score
                is_flat = detection.signal == "flat_signal"
                if is_flat or not (of_clips or score.first_sample == expected):
                    self._keep(run)
                    run = []
                if not is_flat:
                    run.append(score.value)
                expected = score.first_sample + self.model.document.hop_samples
            self.progress(len(block.samples) / pipeline.sample_rate)
        self._keep(run)
        for defect, n_samples in pipeline.signal.n_defective.items():
            before = self.defective_s.get(defect, 0.0)
            self.defective_s[defect] = before + n_samples / pipeline.sample_rate

    @property
    def scores(self) -> NormalScores:
        """All scores so far."""
        document = self.model.document
        return NormalScores(
            self.runs, document.hop_samples, document.score_samples, document.features.sample_rate
        )

    def _keep(self, run: list[float]) -> None:
        if run:
            self.runs.append(np.array(run))


def live_blocks(source: AudioSource, sample_rate: int, duration_s: float) -> Iterator[AudioBlock]:
    """Yield what *source* delivers for *duration_s* seconds of sound, at *sample_rate*.

    Raises:
        AudioDeviceError: If no sound comes for ten seconds.
    """
    resampler = Resampler(source.sample_rate, sample_rate)
    wanted = round(duration_s * source.sample_rate)
    heard = 0
    sound_at = time.monotonic()
    while heard < wanted and not source.ended:
        block = source.read(_READ_TIMEOUT_S)
        if block is not None:
            sound_at = time.monotonic()
            heard += len(block.samples)
            yield resampler.process(block)
        elif time.monotonic() - sound_at > _SILENT_AFTER_S:
            reason = source.fault or "the source delivers no sound"
            raise AudioDeviceError(f"no sound for {_SILENT_AFTER_S:g} s ({reason}); try again")
