"""``edgeasd calibrate``: sets the threshold by normal sound and a budget of false alarms.

Two rules set a threshold before anybody calibrates.  Both bound what normal sound reaches, and they
differ because what they are given differs:

- ``edgeasd learn`` has minutes of continuous sound of one machine.  It knows how the scores follow
  each other, so it extrapolates the tail of their peaks (generalised Pareto) to one false alarm a
  week of the alarm as it decides, run lengths included: `edgeasd.baseline.alarm_rate`, the same
  rule as here.
- ``python -m train export`` has single clips, often a few in a section, recorded at any time.
  Clips say nothing about how often a score comes, so it takes the bound that a new clip of normal
  sound stays below with a given probability (Student's t): `train.scoring.threshold`.

Either is a first guess, replaced by what is calibrated here with more sound of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np

from edgeasd.baseline.alarm_rate import WEEK_S, AlarmRate, NormalScores
from edgeasd.baseline.score_drift import QUANTILES
from edgeasd.common.config.keys import MachineConfig
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
from edgeasd.offline.calibration.outcome import OVERRIDDEN, Outcome
from edgeasd.offline.calibration.scores import ScoreCollector
from edgeasd.offline.recordings.limits import refuse_too_few
from edgeasd.offline.recordings.recordings import (
    Progress,
    Recording,
    blocks_of,
    digest,
    limitations,
)


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
    """Set the threshold of *machine* by recordings, or without them by live sound.

    Args:
        machine: Configuration of the machine.
        recordings: Normal sound that the model was not learned from.
        channel: Channel of the files, counted from 0.
        per_week: Budget of false alarms a week.
        duration_s: Seconds of live sound to listen to.
        progress: Called with the seconds of sound scored since the last call.
        tell: Called with a message about what happens while the command listens.

    Raises:
        EdgeasdError: If there is too little sound, the model was learned from it, something cannot
            be used, or the user interrupted.  Scores of live sound are kept for the next call.
    """
    model = open_model(machine.model)
    refuse_learned_from(model, recordings)
    require_writable(calibration_path(machine))
    document = read_calibrations(machine)
    calibrated = calibrated_model(machine, model)
    collector = ScoreCollector(calibrated.model, calibrated.section, progress)

    def finish() -> Outcome:
        notes = (
            *limitations(recordings, model.document.features),
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
    """Return *made* with its recordings as sources, and the references that *before* had added."""
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
    """Return the calibration that *scores* give, with *notes* on their sound; stores nothing.

    Raises:
        EdgeasdError: If there are too few scores.
    """
    section = calibrated.model.document.sections[calibrated.section]
    spec = alarm_spec(without_thresholds(machine).alarm, section, scores.sample_rate)
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
    """Append the calibration to the calibration file as its newest version.

    Args:
        machine: Configuration of the machine.
        known: Content of the calibration file when scoring began.
        outcome: The calibration to store.

    Raises:
        ModelError: If references were added or taken back since: the scores are then outdated.
        StorageError: If the file cannot be written.
    """
    with exclusively(calibration_path(machine)):
        document = read_calibrations(machine)
        if _learned(document) != _learned(known):
            raise ModelError(
                f"{calibration_path(machine)}: another command changed what counts as normal, so "
                f"these scores are outdated and nothing was stored; call "
                f"'edgeasd calibrate {machine.name}' again"
            )
        last = document.versions[-1].number if document.versions else 0
        calibration = replace(outcome.calibration, number=last + 1)
        write_calibrations(machine, document.with_version(calibration))
    return replace(outcome, calibration=calibration)


def _learned(document: CalibrationDocument) -> tuple[object, ...]:
    """Return what the newest version added to the model's normal sound."""
    newest = document.versions[-1] if document.versions else None
    return (newest.references, newest.distances) if newest else (None, ())


def refuse_other_model(machine: MachineConfig, model: Model) -> None:
    """Check that the model file still holds *model*: the calibration would not fit another one.

    Raises:
        ModelError: If the file was replaced.
    """
    if open_model(machine.model).sha256 != model.sha256:
        raise ModelError(
            f"{machine.model}: was replaced since scoring began, so these scores are outdated and "
            f"nothing was stored; call 'edgeasd calibrate {machine.name}' again"
        )


def undo(machine: MachineConfig) -> tuple[str, ...]:
    """Remove the newest version, and return in words which threshold applies now.

    Raises:
        EdgeasdError: If there is no version to remove.
    """
    with exclusively(calibration_path(machine)):
        document = read_calibrations(machine)
        if not document.versions:
            raise ConfigError(f"machine={machine.name!r} has no calibration to undo")
        write_calibrations(machine, replace(document, versions=document.versions[:-1]))
    calibrated = calibrated_model(machine, open_model(machine.model))
    section = calibrated.model.document.sections[calibrated.section]
    origin = (
        f"version {calibrated.calibration.number}" if calibrated.calibration else "the model's own"
    )
    lines = [
        f"version {document.versions[-1].number} is undone; the daemon uses threshold "
        f"{rounded(section.threshold, 4)} ({origin}) within seconds"
    ]
    if calibrated.warning:
        lines.append(f"warning: {calibrated.warning}")
    if machine.alarm.threshold is not None:
        lines.append(OVERRIDDEN)
    return tuple(lines)


def refuse_learned_from(model: Model, recordings: Sequence[Recording]) -> None:
    """Check that the model was not learned from *recordings*, whose scores would be too low.

    Raises:
        EdgeasdError: If it was learned from one of them.
    """
    known = model.document.learned_from
    for path in (path for one in recordings for path in one.paths):
        if digest(path) in known:
            raise EdgeasdError(
                f"{path}: the model was learned from it, so its scores are too low; calibrate with "
                "normal sound from another time"
            )


def without_thresholds(machine: MachineConfig) -> MachineConfig:
    """Return *machine* without the thresholds of its configuration."""
    alarm = replace(machine.alarm, threshold=None, clear_threshold=None)
    return replace(machine, alarm=alarm)
