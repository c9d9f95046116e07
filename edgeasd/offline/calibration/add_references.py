"""``edgeasd calibrate --add-references``: extends what counts as normal by new sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeasd.baseline.adaptation import adapted_distances, adapted_references, resembles
from edgeasd.baseline.alarm_rate import NormalScores
from edgeasd.capture.recording.wavfile import LONGEST_CLIP_S, blocks_at
from edgeasd.common.config.keys import Config, MachineConfig
from edgeasd.common.errors import AudioFileError, ModelError
from edgeasd.common.files.whole_file import require_writable
from edgeasd.common.text import rounded
from edgeasd.common.types import AudioBlock, Float64Array
from edgeasd.detect.model.document import BY_DISTANCE
from edgeasd.detect.model.matrix import Matrix
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import clip_outputs
from edgeasd.detect.scoring import embeddings_of
from edgeasd.detect.signal import SignalMeter, defect_notes, without_flat
from edgeasd.models.cache import open_model
from edgeasd.models.calibration_file import (
    CalibratedModel,
    calibrated_model,
    calibration_path,
    read_calibrations,
)
from edgeasd.offline.calibration.calibrate import (
    conclude,
    refuse_learned_from,
    refuse_other_model,
    store,
)
from edgeasd.offline.calibration.outcome import Outcome
from edgeasd.offline.calibration.scores import ScoreCollector
from edgeasd.offline.recordings.limits import refuse_longer, refuse_too_much
from edgeasd.offline.recordings.recordings import (
    Progress,
    Recording,
    blocks_of,
    find_recordings,
    limitations,
)
from edgeasd.publish.clips.folder import find_clips

LEAST_CLIPS = 6
"""Clips of ten seconds of new sound; fewer do not show how it varies."""


def add_references(
    machine: MachineConfig,
    new: Sequence[Recording],
    old: Sequence[Recording],
    *,
    channel: int,
    per_week: float,
    alarms: Sequence[Path] = (),
    progress: Progress = lambda _: None,
) -> Outcome:
    """Extend what is normal for *machine* by *new* sound, and set the threshold again.

    The threshold is set by the old sound and the new.  Each half of the new sound is scored by a
    model that learned the other half.

    Args:
        machine: Configuration of the machine.
        new: Recordings of sound that is to count as normal too.
        old: Recordings of what was normal before; by default those of the last calibration.
        channel: Channel of the files, counted from 0.
        per_week: Budget of false alarms a week.
        alarms: Clips of past alarms.
        progress: Called with the seconds of sound scored since the last call.

    Raises:
        EdgeasdError: If the model has no references, or there is too little sound of either kind.
    """
    model = open_model(machine.model)
    require_writable(calibration_path(machine))
    document = read_calibrations(machine)
    calibrated = calibrated_model(machine, model)
    _check_method(calibrated.model, machine)
    old = old or _old_recordings(machine, calibrated)
    refuse_learned_from(model, (*old, *new))
    _refuse_twice(old, new)
    refuse_too_much(new)
    sound = _Sound(model, new, channel)
    clips = sound.clips
    features = model.document.features
    about = (*limitations((*old, *new), features), *defect_notes(sound.defective_s))
    if len(clips) < LEAST_CLIPS:
        raise AudioFileError(
            "; ".join(
                [
                    f"new normal sound={len(clips)} clips of 10 s must be at least {LEAST_CLIPS}; "
                    f"record {10 * (LEAST_CLIPS - len(clips))} s more of it",
                    *about,
                ]
            )
        )
    adapted = replace(calibrated, model=adapt(calibrated.model, calibrated.section, clips))
    collector = ScoreCollector(adapted.model, calibrated.section, progress)
    for recording in old:
        collector.add(blocks_of(recording, channel, features.sample_rate), of_clips=True)
    crossed = _cross_scores(calibrated, sound)
    scores = replace(collector.scores, runs=[*collector.scores.runs, *crossed.runs])
    made = conclude(machine, adapted, scores, per_week)
    before = calibrated.calibration.added_sources if calibrated.calibration else ()
    calibration = replace(
        made.calibration,
        sources=tuple(str(path) for one in old for path in one.paths),
        added_sources=(*before, *(str(path) for one in new for path in one.paths)),
        references=_added(model, adapted.model, calibrated.section),
        distances=adapted.model.document.distances,
    )
    notes = (*about, *defect_notes(collector.defective_s), *_notes(calibrated, sound, alarms))
    refuse_other_model(machine, model)
    return store(machine, document, replace(made, calibration=calibration, notes=notes))


def alarm_clips(config: Config, machine: str) -> list[Path]:
    """Return the clips of past alarms of *machine* that are still on disk."""
    return find_clips(config.clips_dir, machine, config.node)


def adapt(model: Model, section: int, clips: Sequence[Float64Array]) -> Model:
    """Return *model* with *clips* added to the normal sound of *section*."""
    document = model.document
    own = document.sections[section]
    assert own.references is not None
    sections = list(document.sections)
    added = adapted_references(document, clips)
    sections[section] = replace(own, references=own.references.extended(added))
    distances = adapted_distances(document, section, clips)
    return model.with_document(replace(document, sections=tuple(sections), distances=distances))


class _Sound:
    """New normal sound, read from disk each time, because days of it do not fit into memory.

    Args:
        model: The model whose sample rate and geometry are used.
        recordings: The recordings to read.
        channel: Channel of the files, counted from 0.

    Attributes:
        clips: Embeddings of the windows of each ten seconds without a gap or flat sound.
        ends: Position just after each clip.
        defective_s: Seconds of sound with each defect.
    """

    def __init__(self, model: Model, recordings: Sequence[Recording], channel: int) -> None:
        self._recordings = recordings
        self._channel = channel
        self._rate = model.document.features.sample_rate
        self.clips: list[Float64Array] = []
        self.ends: list[int] = []
        meter = SignalMeter(self._rate)
        for clip in cut(without_flat(self.blocks(), meter), model.document.score_samples):
            self.clips.append(embeddings_of(clip_outputs(model, clip.samples)))
            self.ends.append(clip.first_sample + len(clip.samples))
            refuse_longer(self.ends[-1] / self._rate)
        self.defective_s = {each: n / self._rate for each, n in meter.n_defective.items()}

    def blocks(self) -> Iterator[AudioBlock]:
        """Yield the sound at the model's rate, with a gap between recordings."""
        start = 0
        for recording in self._recordings:
            end = start
            for block in blocks_of(recording, self._channel, self._rate):
                yield AudioBlock(block.samples, start + block.first_sample)
                end = start + block.first_sample + len(block.samples)
            start = end + 1

    def halves(self) -> tuple[Iterator[AudioBlock], Iterator[AudioBlock]]:
        """Return the sound of the first half of the clips, and the sound after it."""
        middle = self.ends[len(self.clips) // 2 - 1]
        first, second = (
            (_part(block, middle) for block in self.blocks()),
            (_part(block, middle) for block in self.blocks()),
        )
        return (before for before, _ in first), (after for _, after in second)


def _part(block: AudioBlock, position: int) -> tuple[AudioBlock, AudioBlock]:
    """Split *block* at *position*."""
    n_before = min(max(0, position - block.first_sample), len(block.samples))
    return (
        AudioBlock(block.samples[:n_before], block.first_sample),
        AudioBlock(block.samples[n_before:], block.first_sample + n_before),
    )


def cut(blocks: Iterable[AudioBlock], n_samples: int) -> Iterator[AudioBlock]:
    """Yield pieces of *n_samples* without a gap; incomplete pieces are left out."""
    pending, start = np.empty(0, np.float32), 0
    for block in blocks:
        if block.first_sample != start + len(pending):
            pending, start = pending[:0], block.first_sample
        pending = np.concatenate((pending, block.samples))
        while len(pending) >= n_samples:
            yield AudioBlock(pending[:n_samples], start)
            pending, start = pending[n_samples:], start + n_samples


def _cross_scores(calibrated: CalibratedModel, sound: _Sound) -> NormalScores:
    """Return the scores of each half of the new sound by a model that learned the other half."""
    half = len(sound.clips) // 2
    first, second = sound.halves()
    runs: list[Float64Array] = []
    for blocks, rest in ((first, sound.clips[half:]), (second, sound.clips[:half])):
        collector = ScoreCollector(
            adapt(calibrated.model, calibrated.section, rest), calibrated.section
        )
        collector.add(blocks, of_clips=True)
        runs += collector.scores.runs
    return replace(collector.scores, runs=runs)


def _added(before: Model, after: Model, section: int) -> Matrix:
    """Return the references of *after* that are not in the model file."""
    own, extended = (one.document.sections[section].references for one in (before, after))
    assert own is not None
    assert extended is not None
    return Matrix(extended.values[own.shape[0] :])


def _notes(calibrated: CalibratedModel, sound: _Sound, alarms: Sequence[Path]) -> tuple[str, ...]:
    """Return in words how the new sound compares with normal sound and with past alarms."""
    collector = ScoreCollector(calibrated.model, calibrated.section)
    collector.add(sound.blocks(), of_clips=True)
    threshold = calibrated.model.document.sections[calibrated.section].threshold
    notes = []
    if collector.runs:  # flat sound may leave no ten seconds for a score
        values = collector.scores.values
        notes.append(
            f"before this change {(values >= threshold).mean():.0%} of the new sound scored above "
            f"the threshold (median {rounded(float(np.median(values)), 4)}, threshold "
            f"{rounded(threshold, 4)})"
        )
    heard: list[tuple[str, Float64Array]] = []
    for path in alarms:
        try:
            heard += [(path.name, one) for one in _alarming(calibrated, path)]
        except AudioFileError as exc:  # noqa: PERF203 - one clip does not stop the others
            notes.append(f"warning: the new sound was not compared with a past alarm: {exc}")
    index = resembles(
        calibrated.model.document, calibrated.section, sound.clips, [one for _, one in heard]
    )
    if index is not None:
        notes.append(
            f"warning: the new sound is more like {heard[index][0]}, the clip of a past alarm, "
            "than like normal sound; if the machine is faulty, revert this with --undo"
        )
    return tuple(notes)


def _alarming(calibrated: CalibratedModel, path: Path) -> list[Float64Array]:
    """Return the embeddings of each ten seconds at *path* that score above the threshold."""
    model = calibrated.model
    rate = model.document.features.sample_rate
    scoring = model.scoring(calibrated.section)
    threshold = model.document.sections[calibrated.section].threshold
    blocks = without_flat(blocks_at(path, 0, rate, LONGEST_CLIP_S), SignalMeter(rate))
    clips = (
        embeddings_of(clip_outputs(model, clip.samples))
        for clip in cut(blocks, model.document.score_samples)
    )
    return [one for one in clips if scoring.clip_value(one.mean(axis=0)) >= threshold]


def _refuse_twice(old: Sequence[Recording], new: Sequence[Recording]) -> None:
    # It would count twice, once scored by a model that learned it.
    known = {path for one in old for path in one.paths}
    for path in (path for one in new for path in one.paths):
        if path in known:
            raise AudioFileError(
                f"{path}: is named both as old and as new normal sound; name as FILES what was "
                "recorded before the change"
            )


def _check_method(model: Model, machine: MachineConfig) -> None:
    method = model.document.scoring.method
    if method not in BY_DISTANCE:
        raise ModelError(
            f"{machine.model}: scoring.method={method!r} must be one of {', '.join(BY_DISTANCE)} "
            "for --add-references; export the model with another --scoring"
        )


def _old_recordings(machine: MachineConfig, calibrated: CalibratedModel) -> list[Recording]:
    """Return the recordings that the calibration in force was made from.

    Raises:
        AudioFileError: If it was made from live sound, or a recording no longer exists.
    """
    paths = [Path(one) for one in calibrated.calibration.sources] if calibrated.calibration else []
    if not paths or not all(path.exists() for path in paths):
        raise AudioFileError(
            f"machine={machine.name!r} also needs normal sound from before the change, for a "
            "threshold that fits both; name it as FILES"
        )
    return find_recordings(paths)
