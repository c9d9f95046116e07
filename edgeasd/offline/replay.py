"""Scores of recordings, by the pipeline of the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeasd.capture.recording.wavfile import WavFile, read_clip
from edgeasd.common.config.keys import AlarmConfig
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Detection, clip_outputs
from edgeasd.detect.scoring import clip_score
from edgeasd.detect.signal import find_defect
from edgeasd.models.detector import Detector, make_detector


@dataclass(frozen=True, slots=True)
class Replay:
    """How recordings are scored.

    Attributes:
        model: Network and its geometry.
        section: Name of the section that the sound comes from; may be empty if there is one only.
        channel: Channel of the files, counted from 0.
        alarm: Thresholds and run lengths from the configuration.
    """

    model: Model
    section: str = ""
    channel: int = 0
    alarm: AlarmConfig = field(default_factory=AlarmConfig)

    @property
    def detector(self) -> Detector:
        """Detector that turns the recordings into scores and alarms.

        Raises:
            ModelError: If the model has no such section.
        """
        return make_detector(self.model, self.section, self.alarm)

    def row(self, path: Path, detection: Detection) -> dict[str, Any]:
        """Return *detection* in the recording at *path* as a row of the output."""
        score = detection.score
        return {
            "file": str(path),
            "first_sample": score.first_sample,
            "n_samples": score.n_samples,
            "end_s": score.end_sample / self.model.document.features.sample_rate,
            "score": score.value,
            "event": None if detection.event is None else detection.event.type,
            "signal": detection.signal,
        }

    def detections(self, path: Path) -> Iterator[Detection]:
        """Yield the scores and events that the daemon would make of the recording at *path*."""
        detector = self.detector
        with closing(WavFile(path, self.channel)) as source:
            pipeline = detector.pipeline(source.sample_rate)
            while (block := source.read(0.0)) is not None:
                yield from pipeline.process(block)
            yield from pipeline.flush()

    def clip(self, path: Path) -> dict[str, Any]:
        """Return the score over all windows of a clip as a row of the output.

        As in the daemon, it is unknown whether a clip that holds flat sound is anomalous.

        Raises:
            EdgeasdError: If the file or the section cannot be used.
        """
        detector = self.detector
        samples = read_clip(path, self.channel, detector.sample_rate)
        signal = find_defect(samples, detector.sample_rate)
        outputs = clip_outputs(self.model, samples)
        score = clip_score(self.model.scoring(detector.section), outputs)
        threshold = detector.alarm.threshold
        return {
            "file": str(path),
            "n_windows": len(outputs),
            "score": score,
            "threshold": threshold,
            "anomalous": None if signal == "flat_signal" else score >= threshold,
            "signal": signal,
        }
