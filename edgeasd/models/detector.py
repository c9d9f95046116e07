"""Everything that a machine is scored by, and the pipeline that is made of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeasd.baseline.score_drift import ScoreDriftMeter
from edgeasd.baseline.validity import AlarmCounter, Fit
from edgeasd.common.config.keys import AlarmConfig, MachineConfig
from edgeasd.common.errors import ConfigError
from edgeasd.common.types import AudioBlock
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.model.document import SectionDocument
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Detection, Pipeline
from edgeasd.models.calibration_file import CalibratedModel, Calibration, calibrated_model


@dataclass(frozen=True, slots=True)
class Origin:
    """What the detector of a machine was made of.

    Attributes:
        machine: Configuration of the machine.
        model: Model as its file holds it, before calibration.
    """

    machine: MachineConfig
    model: Model


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """What turns the sound of one machine into scores and alarms.

    Attributes:
        model: Network and its geometry, with the references that are in force.
        section: Index of the machine's section in the model.
        alarm: Conditions under which scores raise and clear the alarm.
        calibrated: Result of looking for a calibration of the machine; None if nobody looked.
        origin: What it was made of; None if it was not made for a machine.
    """

    model: Model
    section: int
    alarm: AlarmSpec
    calibrated: CalibratedModel | None = None
    origin: Origin | None = None

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model, hertz."""
        return self.model.document.features.sample_rate

    @property
    def calibration(self) -> Calibration | None:
        """Calibration in force; None where the model's own threshold is."""
        return None if self.calibrated is None else self.calibrated.calibration

    def scores_as(self, other: Detector) -> bool:
        """Return whether both give all sound the same scores; their alarms may differ."""
        return self._scored_by() == other._scored_by()

    def _scored_by(self) -> tuple[object, ...]:
        document = self.model.document
        references = document.sections[self.section].references
        return self.model.sha256, self.section, references, document.distances

    def pipeline(self, source_rate: int | None = None) -> DetectorPipeline:
        """Return a new pipeline for sound of *source_rate* hertz; None is the model's rate."""
        return DetectorPipeline(self, source_rate)

    def drift_meter(self) -> ScoreDriftMeter | None:
        """Return what compares scores with those at calibration; None without a calibration."""
        made = self.calibration
        return None if made is None else ScoreDriftMeter(made.score_quantiles, self.sample_rate)

    def alarm_counter(self) -> AlarmCounter | None:
        """Return what compares alarms with the number foreseen; None where none is foreseen.

        A calibration foresees nothing for a threshold or a run length other than its own.
        """
        calibrated, made = self.calibrated, self.calibration
        if (
            calibrated is None
            or made is None
            or calibrated.warning
            or self.alarm.threshold != made.threshold
        ):
            return None
        return AlarmCounter(made.high_per_week, self.sample_rate)


class DetectorPipeline(Pipeline):
    """The pipeline of a detector, which also observes whether the calibration still fits.

    Args:
        detector: Model, section, alarm and calibration.
        source_rate: Sample rate of the blocks, hertz; None if they have the rate of the model.

    Attributes:
        detector: Detector whose alarm and calibration are in force.
    """

    def __init__(self, detector: Detector, source_rate: int | None = None) -> None:
        super().__init__(detector.model, detector.section, detector.alarm, source_rate=source_rate)
        self.detector = detector
        self._drift_meter = detector.drift_meter()
        self._alarm_counter = detector.alarm_counter()

    @property
    def fit(self) -> Fit:
        """How the calibration fits the sound heard since."""
        return Fit(
            None if self._drift_meter is None else self._drift_meter.drift,
            None if self._alarm_counter is None else self._alarm_counter.count,
        )

    def adjust(self, detector: Detector) -> None:
        """Go on with the alarm and the calibration of a *detector* that gives the same scores."""
        before, self.detector = self.detector, detector
        self.alarm.spec = detector.alarm
        if detector.calibration != before.calibration:
            self._drift_meter = detector.drift_meter()
        if (detector.calibration, detector.alarm) != (before.calibration, before.alarm):
            self._alarm_counter = detector.alarm_counter()

    def process(self, block: AudioBlock) -> list[Detection]:
        """Return the detections that *block* completes."""
        return self._observed(super().process(block))

    def flush(self) -> list[Detection]:
        """Return the detections that the end of the sound completes."""
        return self._observed(super().flush())

    def _observed(self, detections: list[Detection]) -> list[Detection]:
        for detection in detections:
            # A score of flat sound says nothing about the machine.
            if detection.signal == "flat_signal":
                continue
            if self._alarm_counter is not None:
                self._alarm_counter.process(detection)
            if self._drift_meter is not None and not detection.alarm:
                self._drift_meter.process(detection.score)
        return detections


def detector_of(machine: MachineConfig, model: Model) -> Detector:
    """Return the detector of *machine*, with its calibration if there is one that can be used.

    Args:
        machine: Configuration of the machine.
        model: Model as its file holds it.

    Raises:
        ModelError: If the model has no such section.
        ConfigError: If the clear threshold in force would be above the threshold.
    """
    calibrated = calibrated_model(machine, model)
    detector = make_detector(calibrated.model, machine.section, machine.alarm)
    return replace(detector, calibrated=calibrated, origin=Origin(machine, model))


def make_detector(model: Model, section: str, config: AlarmConfig) -> Detector:
    """Return the detector of a section of *model*.

    Args:
        model: Network and its geometry.
        section: Name of the section; may be empty if the model has one only.
        config: Thresholds and run lengths from the configuration.

    Raises:
        ModelError: If the model has no such section.
        ConfigError: If the clear threshold in force would be above the threshold.
    """
    index = model.section_index(section)
    document = model.document
    alarm = alarm_spec(config, document.sections[index], document.features.sample_rate)
    return Detector(model, index, alarm)


def alarm_spec(config: AlarmConfig, learned: SectionDocument, sample_rate: int) -> AlarmSpec:
    """Return when scores raise the alarm, by the configuration and by what the model *learned*.

    Raises:
        ConfigError: If the clear threshold in force would be above the threshold.
    """
    threshold = learned.threshold if config.threshold is None else config.threshold
    clear_threshold = config.clear_threshold
    if clear_threshold is None:
        clear_threshold = min(learned.clear_threshold, threshold)
    if clear_threshold > threshold:
        raise ConfigError(
            f"alarm.clear_threshold={clear_threshold:g} must be at most the model's "
            f"threshold={threshold:g}"
        )
    return AlarmSpec(
        threshold=threshold,
        clear_threshold=clear_threshold,
        raise_after=config.raise_after,
        clear_after=config.clear_after,
        cool_down=round(config.cool_down_s * sample_rate),
        update_every=max(1, round(config.update_every_s * sample_rate)),
    )
