"""All that a machine is scored by: a model, its section of it, and when a score is an alarm."""

from __future__ import annotations

from dataclasses import dataclass

from edgeasd.baseline.score_drift import ScoreDriftMeter
from edgeasd.baseline.validity import AlarmCounter
from edgeasd.common.config import AlarmConfig
from edgeasd.common.errors import ConfigError
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.model.document import SectionDocument
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Pipeline
from edgeasd.models.calibration_file import CalibratedModel, Calibration


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """What turns the sound of one machine into scores and alarms.

    Attributes:
        model: The network and its geometry.
        section: Index of the machine's section in the model.
        alarm: When a score becomes an alarm.
        calibrated: What was learned on site, where that was asked for.
    """

    model: Model
    section: int
    alarm: AlarmSpec
    calibrated: CalibratedModel | None = None

    @property
    def sample_rate(self) -> int:
        """Of the sound that it takes, hertz."""
        return self.model.document.features.sample_rate

    @property
    def calibration(self) -> Calibration | None:
        """What was learned on site, if anything is in force."""
        return None if self.calibrated is None else self.calibrated.calibration

    def scores_as(self, other: Detector) -> bool:
        """Return whether both give all sound the same scores; their alarms may differ."""
        return self._scored_by() == other._scored_by()

    def _scored_by(self) -> tuple[object, ...]:
        document = self.model.document
        references = document.sections[self.section].references
        return self.model.sha256, self.section, references, document.distances

    def pipeline(self) -> Pipeline:
        """Return new stages from sound to alarm."""
        return Pipeline(self.model, self.section, self.alarm)

    def drift_meter(self) -> ScoreDriftMeter | None:
        """Return what compares scores with those at calibration; `None` if there was none."""
        made = self.calibration
        return None if made is None else ScoreDriftMeter(made.score_quantiles, self.sample_rate)

    def alarm_counter(self) -> AlarmCounter | None:
        """Return what compares alarms with those foreseen; `None` where none are foreseen.

        A calibration says nothing of a threshold or a run length that is not its own.
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


def make_detector(model: Model, section: str, config: AlarmConfig) -> Detector:
    """Return what the site's *config* makes of a section of *model*.

    Args:
        model: The network and its geometry.
        section: Name of the section; may be empty if the model has one.
        config: What the site says of thresholds and run lengths.

    Raises:
        ModelError: If the model has no such section.
        ConfigError: If the clear threshold in force would be above the threshold.
    """
    index = model.section_index(section)
    document = model.document
    alarm = alarm_spec(config, document.sections[index], document.features.sample_rate)
    return Detector(model, index, alarm)


def alarm_spec(config: AlarmConfig, learned: SectionDocument, sample_rate: int) -> AlarmSpec:
    """Return when a score becomes an alarm, by what the site says and the model *learned*.

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
