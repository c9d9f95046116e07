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
    """

    model: Model
    section: int
    progress: Progress = lambda _: None
    runs: list[Float64Array] = field(default_factory=list)

    def add(self, blocks: Iterable[AudioBlock]) -> None:
        """Score a stream, at the model's rate."""
        pipeline = Pipeline(self.model, self.section, _NEVER)
        run: list[float] = []
        expected = -1
        for block in blocks:
            for detection in pipeline.process(block):
                score = detection.score
                # A flat signal raises no alarm either.
                if score.first_sample < pipeline.signal.last_flat_sample:
                    continue
                if score.first_sample != expected:
                    self._keep(run)
                    run = []
                run.append(score.value)
                expected = score.first_sample + self.model.document.hop_samples
            self.progress(len(block.samples) / pipeline.sample_rate)
        self._keep(run)

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
