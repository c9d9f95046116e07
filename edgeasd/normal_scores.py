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
from edgeasd.stream import AudioBlock
from edgeasd.terminal import rough_time

_READ_TIMEOUT_S = 0.5
_SILENT_AFTER_S = 10.0
_N_PATIENCE = 60
"""Times that: who is away for hours learns soon enough that nothing comes any more."""
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
    runs: list[list[float]] = field(default_factory=list)

    def add(self, blocks: Iterable[AudioBlock]) -> None:
        """Score a stream, at the model's rate; what *blocks* raises leaves all scores so far."""
        pipeline = Pipeline(self.model, self.section, _NEVER)
        expected = -1
        for block in blocks:
            for detection in pipeline.process(block):
                score = detection.score
                # A flat signal raises no alarm either.
                if score.first_sample < pipeline.signal.last_flat_sample:
                    continue
                if score.first_sample != expected:
                    self.runs.append([])
                self.runs[-1].append(score.value)
                expected = score.first_sample + self.model.document.hop_samples
            self.progress(len(block.samples) / pipeline.sample_rate)

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
        source: Of the sound.
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
