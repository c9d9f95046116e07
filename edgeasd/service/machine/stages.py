"""All that the sound of a source goes through, to scores and alarms."""

from __future__ import annotations

from edgeasd.baseline.validity import Fit
from edgeasd.capture.resampler import Resampler
from edgeasd.common.types import AudioBlock
from edgeasd.detect.pipeline import Detection, Pipeline
from edgeasd.models.detector import Detector


class Stages:
    """Takes blocks at the rate of the source.

    Args:
        detector: What scores.
        source_rate: Of the blocks, hertz.

    Attributes:
        detector: As given, or adjusted to.
        pipeline: What comes after the resampler.
    """

    def __init__(self, detector: Detector, source_rate: int) -> None:
        self.detector = detector
        self.pipeline: Pipeline = detector.pipeline()
        self._resampler = Resampler(source_rate, detector.sample_rate)
        self._drift_meter = detector.drift_meter()
        self._alarm_counter = detector.alarm_counter()

    @property
    def fit(self) -> Fit:
        """How the calibration fits what came after it."""
        return Fit(
            None if self._drift_meter is None else self._drift_meter.drift,
            None if self._alarm_counter is None else self._alarm_counter.count,
        )

    def adjust(self, detector: Detector) -> None:
        """Go on by another alarm or calibration of what gives the same scores."""
        before, self.detector = self.detector, detector
        self.pipeline.alarm.spec = detector.alarm
        if detector.calibration != before.calibration:
            self._drift_meter = detector.drift_meter()
        if (detector.calibration, detector.alarm) != (before.calibration, before.alarm):
            self._alarm_counter = detector.alarm_counter()

    def process(self, block: AudioBlock) -> list[Detection]:
        """Return what *block* of the source completes."""
        detections = self.pipeline.process(self._resampler.process(block))
        # A score of flat sound is none of the machine.
        heard = [each for each in detections if each.signal != "flat_signal"]
        if self._alarm_counter is not None:
            for detection in heard:
                self._alarm_counter.process(detection)
        if self._drift_meter is not None and not self.pipeline.alarm.active:
            for detection in heard:
                self._drift_meter.process(detection.score)
        return detections

    def flush(self) -> list[Detection]:
        """Return what the end of the source's sound completes."""
        return self.pipeline.process(self._resampler.flush())
