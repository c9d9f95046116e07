"""Collects the scores that the daemon's own pipeline gives to normal sound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeasd.baseline.alarm_rate import NormalScores
from edgeasd.common.types import AudioBlock
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Detection, Pipeline
from edgeasd.detect.signal import Defect
from edgeasd.offline.recordings.recordings import Progress

_NEVER = AlarmSpec(math.inf, math.inf)


@dataclass
class ScoreCollector:
    """Collects runs of scores without a gap, for one model and section.

    Args:
        model: The model, with the references to score by.
        section: Index of the section.
        progress: Called with the seconds of sound scored since the last call.

    Attributes:
        runs: Runs of scores of all streams so far.
        defective_s: Seconds of sound with each defect.
    """

    model: Model
    section: int
    progress: Progress = lambda _: None
    runs: list[list[float]] = field(default_factory=list)
    defective_s: dict[Defect, float] = field(default_factory=dict)
    # Position at which the next score continues the run; -1 starts a new run.
    _expected: int = field(default=-1, init=False)

    def add(
        self,
        blocks: Iterable[AudioBlock],
        *,
        source_rate: int | None = None,
        of_clips: bool = False,
    ) -> None:
        """Score a stream and collect its scores, except those that rest on flat sound.

        If *blocks* raises an exception, the scores so far are kept.

        Args:
            blocks: The stream.
            source_rate: Sample rate of *blocks*, hertz; None if they have the rate of the model.
            of_clips: Whether a gap is a seam between clips.  A score may then rest on several
                clips, because clips of ten seconds would have only one each.  In live sound a gap
                ends a run, as in the daemon.
        """
        pipeline = Pipeline(
            self.model, self.section, _NEVER, source_rate=source_rate, joins_gaps=of_clips
        )
        rate = source_rate or pipeline.sample_rate
        self._expected = -1
        try:
            for block in blocks:
                self._take(pipeline.process(block), of_clips=of_clips)
                self.progress(len(block.samples) / rate)
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
        """The scores so far."""
        document = self.model.document
        return NormalScores(
            [np.array(run) for run in self.runs],
            document.hop_samples,
            document.score_samples,
            document.features.sample_rate,
        )
