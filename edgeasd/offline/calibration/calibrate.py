"""``edgeasd calibrate``: a threshold from normal sound and a budget of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edgeasd.baseline.alarm_rate import (
    FEW_DECISIONS,
    WEEK_S,
    AlarmRate,
    NormalScores,
    sound_to_factor_2,
)
from edgeasd.baseline.score_drift import QUANTILES
from edgeasd.baseline.tail import Rate
from edgeasd.common.config import MachineConfig
from edgeasd.common.errors import ConfigError, EdgeasdError, ModelError
from edgeasd.common.files.whole_file import exclusively, require_writable
from edgeasd.common.text import rounded
from edgeasd.detect.model.network import Model
from edgeasd.detect.signal import defect_notes
from edgeasd.models.cache import open_model
from edgeasd.models.calibration_file import (
    CalibratedModel,
    Calibration,
    CalibrationDocument,
    calibrated_model,
    calibration_path,
    read_calibrations,
    write_calibrations,
)
from edgeasd.models.detector import alarm_spec
from edgeasd.offline.calibration.live_scores import KeptScores, Tell, listen
from edgeasd.offline.calibration.scores import ScoreCollector
from edgeasd.offline.learn import digest, refuse_too_few
from edgeasd.offline.recordings.recordings import Progress, Recording, blocks_of, shortcomings

_PROMISED = 3.0
"""A budget is supported if the upper end of the interval is at most this many times as much ..."""
_REACH = 100.0
"""... and it asks for an alarm in at most this many times the sound.  Further out the expectation
rests on the rare long tails, beyond the interval's end."""
_OVERRIDDEN = "warning: alarm.threshold in the configuration goes before it; remove that key"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A calibration that was made.

    Attributes:
        calibration: The new version.
        rates: How often normal sound raises the alarm, by threshold.
        scores: That it was made from.
        path: Of the site file.
        overridden: Whether the configuration names a threshold of its own, which goes before it.
        notes: What else is to be said.
    """

    calibration: Calibration
    rates: AlarmRate
    scores: NormalScores
    path: Path
    overridden: bool
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return in words what was found, and what it is worth."""
        made = self.calibration
        rate = Rate(made.expected_per_week, made.low_per_week, made.high_per_week)
        found = "counted" if made.method == "counted" else f"from the {made.fit['peaks']} highest"
        lines = [
            *self.notes,
            f"normal sound: {_duration(made.sound_s)}, {made.decisions} independent decisions",
            f"threshold {rounded(made.threshold, 4)}, "
            f"clear threshold {rounded(made.clear_threshold, 4)}",
            f"false alarms to expect in sound like this: {per_time(rate.expected)}, 95 % interval "
            f"{per_time(rate.low)} to {per_time(rate.high)} ({found}); asked for "
            f"{per_time(made.budget_per_week)}",
        ]
        reach_s = WEEK_S / made.budget_per_week / _REACH
        needed_s = max(sound_to_factor_2(rate, made.sound_s), reach_s)
        if needed_s > made.sound_s:
            lines.append(
                f"from about {_duration(needed_s)} of normal sound on, more than twice as many "
                "could be ruled out"
            )
        if rate.high > _PROMISED * made.budget_per_week or made.sound_s < reach_s:
            lines.append(
                f"warning: this sound cannot support {per_time(made.budget_per_week)}; the "
                "threshold is set for it, but more alarms cannot be ruled out"
            )
        if made.decisions < FEW_DECISIONS:
            lines.append(
                f"warning: {made.decisions} decisions are few, {FEW_DECISIONS} are wanted; take "
                "the threshold for a first guess"
            )
        if self.overridden:
            lines.append(_OVERRIDDEN)
        return [
            *lines,
            f"version {made.number} in {self.path}; the daemon takes it up within seconds",
        ]


def calibrate(
    machine: MachineConfig,
    recordings: Sequence[Recording],
    *,
    channel: int,
    per_week: float,
    duration_s: float,
    progress: Progress = lambda _: None,
    tell: Tell = lambda _: None,
) -> Outcome:
    """Set the threshold of *machine*, by recordings or, where there are none, by live sound.

    Args:
        machine: Configuration of the machine.
        recordings: Normal sound that the model was not learned from.
        channel: Channel of the files, counted from 0.
        per_week: False alarms a week that are accepted.
        duration_s: Of live sound, seconds.
        progress: Is told of the sound that was scored.
        tell: Is told what happens while it is listened.

    Raises:
        EdgeasdError: If there is too little sound, it was learned from, anything cannot be used, or
            somebody asked for the end; live sound that was heard is then kept for the next call.
    """
    model = open_model(machine.model)
    refuse_learned_from(model, recordings)
    require_writable(calibration_path(machine))
    document = read_calibrations(machine)
    calibrated = calibrated_model(machine, model)
    collector = ScoreCollector(calibrated.model, calibrated.section, progress)

    def finish() -> Outcome:
        notes = (
            *shortcomings(recordings, model.document.features),
            *defect_notes(collector.defective_s),
        )
        made = conclude(machine, calibrated, collector.scores, per_week, notes)
        calibration = _with_learned(made.calibration, calibrated.calibration, recordings)
        refuse_other_model(machine, model)
        return store(machine, document, replace(made, calibration=calibration))

    if recordings:
        for recording in recordings:
            blocks = blocks_of(recording, channel, model.document.features.sample_rate)
            collector.add(blocks, of_clips=True)
        return finish()
    with KeptScores(machine, calibrated) as kept:
        listen(machine, collector, kept, duration_s, tell)
        outcome = finish()
        kept.remove()
    return outcome


def _with_learned(
    made: Calibration, before: Calibration | None, recordings: Sequence[Recording]
) -> Calibration:
    """Return *made* with what it rests on: its recordings, and what *before* had learned."""
    return replace(
        made,
        sources=tuple(str(path) for one in recordings for path in one.paths),
        added_sources=before.added_sources if before else (),
        references=before.references if before else None,
        distances=before.distances if before else (),
    )


def conclude(
    machine: MachineConfig,
    calibrated: CalibratedModel,
    scores: NormalScores,
    per_week: float,
    notes: tuple[str, ...] = (),
) -> Outcome:
    """Return the threshold that *scores* give, not yet stored, with *notes* on their sound.

    Raises:
        EdgeasdError: If there are too few.
    """
    section = calibrated.model.document.sections[calibrated.section]
    spec = alarm_spec(replace_thresholds(machine).alarm, section, scores.sample_rate)
    refuse_too_few(scores, spec.raise_after, notes)
    rates = AlarmRate(scores, spec)
    threshold = rates.threshold(per_week / WEEK_S)
    rate, method = rates.at(threshold)
    calibration = Calibration(
        number=1,
        model_sha256=calibrated.model.sha256,
        section=section.name,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        threshold=threshold,
        clear_threshold=rates.clear_threshold(threshold),
        raise_after=machine.alarm.raise_after,
        clear_after=machine.alarm.clear_after,
        cool_down_s=machine.alarm.cool_down_s,
        budget_per_week=per_week,
        expected_per_week=rate.expected * WEEK_S,
        low_per_week=rate.low * WEEK_S,
        high_per_week=rate.high * WEEK_S,
        method=method,
        fit={
            "level": rates.tail.level,
            "peaks": rates.tail.n_peaks,
            "dispersion": rates.dispersion,
        },
        sound_s=scores.duration_s,
        decisions=rates.decisions,
        score_quantiles=tuple(np.quantile(scores.values, QUANTILES).tolist()),
    )
    overridden = machine.alarm.threshold is not None
    return Outcome(calibration, rates, scores, calibration_path(machine), overridden, notes)


def store(machine: MachineConfig, known: CalibrationDocument, outcome: Outcome) -> Outcome:
    """Write the calibration as the newest version, behind all that are there by now.

    Args:
        machine: Configuration of the machine.
        known: The site file as it was when the scores were begun.
        outcome: What was calibrated.

    Raises:
        ModelError: If what counts as normal has changed since: the scores are not of it.
        StorageError: If the file cannot be written.
    """
    with exclusively(calibration_path(machine)):
        document = read_calibrations(machine)
        if _learned(document) != _learned(known):
            raise ModelError(
                f"{calibration_path(machine)}: what counts as normal was changed meanwhile, so the "
                f"scores are not of it; nothing was stored, call "
                f"'edgeasd calibrate {machine.name}' again"
            )
        last = document.versions[-1].number if document.versions else 0
        calibration = replace(outcome.calibration, number=last + 1)
        write_calibrations(machine, document.with_version(calibration))
    return replace(outcome, calibration=calibration)


def _learned(document: CalibrationDocument) -> tuple[object, ...]:
    """Return what the newest version has in place of what the model takes for normal."""
    newest = document.versions[-1] if document.versions else None
    return (newest.references, newest.distances) if newest else (None, ())


def refuse_other_model(machine: MachineConfig, model: Model) -> None:
    """Check that the model file is still *model*: else its own calibrations would be hidden.

    Raises:
        ModelError: If it is not.
    """
    if open_model(machine.model).sha256 != model.sha256:
        raise ModelError(
            f"{machine.model}: was replaced meanwhile, so the scores are not of it; nothing was "
            f"stored, call 'edgeasd calibrate {machine.name}' again"
        )


def undo(machine: MachineConfig) -> tuple[str, ...]:
    """Take back the newest version, and return in words what is in force then.

    Raises:
        EdgeasdError: If there is none.
    """
    with exclusively(calibration_path(machine)):
        document = read_calibrations(machine)
        if not document.versions:
            raise ConfigError(f"machine={machine.name!r} has no calibration that could be undone")
        write_calibrations(machine, replace(document, versions=document.versions[:-1]))
    calibrated = calibrated_model(machine, open_model(machine.model))
    section = calibrated.model.document.sections[calibrated.section]
    origin = (
        f"version {calibrated.calibration.number}" if calibrated.calibration else "the model's own"
    )
    lines = [
        f"version {document.versions[-1].number} is undone; threshold "
        f"{rounded(section.threshold, 4)} ({origin}) is in force within seconds"
    ]
    if calibrated.warning:
        lines.append(f"warning: {calibrated.warning}")
    if machine.alarm.threshold is not None:
        lines.append(_OVERRIDDEN)
    return tuple(lines)


def refuse_learned_from(model: Model, recordings: Sequence[Recording]) -> None:
    """Check that the model was not learned from *recordings*: it knows them too well.

    Raises:
        EdgeasdError: If it was.
    """
    known = model.document.learned_from
    for path in (path for one in recordings for path in one.paths):
        if digest(path) in known:
            raise EdgeasdError(
                f"{path}: the model was learned from it, so its scores are too low; calibrate with "
                "normal sound of another time"
            )


def replace_thresholds(machine: MachineConfig) -> MachineConfig:
    """Return *machine* without thresholds of its own."""
    alarm = replace(machine.alarm, threshold=None, clear_threshold=None)
    return replace(machine, alarm=alarm)


def per_time(per_week: float) -> str:
    """Return a rate in the unit in which it is easiest to imagine."""
    for per, unit in ((168.0, "an hour"), (7.0, "a day"), (1.0, "a week")):
        if per_week >= 0.9 * per:
            return f"{rounded(per_week / per, 2)} {unit}"
    return f"{rounded(per_week * 52.0, 2)} a year"


def _duration(seconds: float) -> str:
    if seconds < 5400.0:  # noqa: PLR2004 - an hour and a half
        return f"{seconds / 60.0:.0f} min"
    if seconds < 172_800.0:  # noqa: PLR2004 - two days
        return f"{seconds / 3600.0:.1f} h"
    return f"{seconds / 86_400.0:.0f} days"
