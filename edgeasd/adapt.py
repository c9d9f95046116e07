"""``edgeasd calibrate --add-references``: new normal sound counts as normal from now on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeasd.calibrate import Outcome, conclude, refuse_learned_from, refuse_other_model, store
from edgeasd.capture.wavfile import read_clip
from edgeasd.config import Config, MachineConfig
from edgeasd.detect.adaptation import adapted_distances, adapted_references, resembles
from edgeasd.detect.calibration import NormalScores
from edgeasd.detect.metadata import BY_DISTANCE, Matrix
from edgeasd.detect.model import Model
from edgeasd.detect.pipeline import clip_outputs
from edgeasd.detect.scoring import embeddings_of
from edgeasd.errors import AudioFileError, ModelError
from edgeasd.model_files import open_model
from edgeasd.normal_scores import Progress, ScoreCollector
from edgeasd.publish.clips import find_clips
from edgeasd.site import Site, at_site, read_site, site_path
from edgeasd.sounds import Recording, blocks_of, find_recordings
from edgeasd.stream import AudioBlock, Float32Array, Float64Array
from edgeasd.terminal import rounded
from edgeasd.whole_file import require_writable

LEAST_CLIPS = 6
"""Of ten seconds, of new sound: fewer do not show how it varies."""


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

    The threshold comes from the old sound, and from the new, each half of which is scored by what
    the other half teaches.

    Args:
        machine: Of the configuration.
        new: Recordings of what shall be normal as well.
        old: Recordings of what was normal before; by default those of the last calibration.
        channel: Of the files, counted from 0.
        per_week: False alarms a week that are accepted.
        alarms: Clips of alarms of before.
        progress: Is told of the sound that was scored.

    Raises:
        EdgeasdError: If the model has no references, or there is too little sound of either kind.
    """
    model = open_model(machine.model)
    require_writable(site_path(machine))
    document = read_site(machine)
    site = at_site(machine, model)
    _check_method(site.model, machine)
    old = old or _old_recordings(machine, site)
    refuse_learned_from(model, (*old, *new))
    _refuse_twice(old, new)
    samples = _read(new, channel, model)
    clips = _clips_of(model, samples)
    if len(clips) < LEAST_CLIPS:
        raise AudioFileError(
            f"new normal sound={len(clips)} clips of 10 s must be at least {LEAST_CLIPS}; record "
            f"{10 * (LEAST_CLIPS - len(clips))} s more of it"
        )
    adapted = replace(site, model=adapt(site.model, site.section, clips))
    collector = ScoreCollector(adapted.model, site.section, progress)
    for recording in old:
        collector.add(blocks_of(recording, channel, model.document.features.sample_rate))
    crossed = _cross_scores(site, samples, clips)
    scores = replace(collector.scores, runs=[*collector.scores.runs, *crossed.runs])
    made = conclude(machine, adapted, scores, per_week)
    before = site.calibration.added_sources if site.calibration else ()
    calibration = replace(
        made.calibration,
        sources=tuple(str(path) for one in old for path in one.paths),
        added_sources=(*before, *(str(path) for one in new for path in one.paths)),
        references=_added(model, adapted.model, site.section),
        distances=adapted.model.document.distances,
    )
    notes = _notes(site, samples, clips, alarms)
    refuse_other_model(machine, model)
    return store(machine, document, replace(made, calibration=calibration, notes=notes))


def alarm_clips(config: Config, machine: str) -> list[Path]:
    """Return the clips of past alarms of *machine* that are still kept."""
    return find_clips(config.clips_dir, machine, config.node)


def adapt(model: Model, section: int, clips: Sequence[Float64Array]) -> Model:
    """Return *model* with *clips* of new normal sound of *section* in what it takes for normal."""
    document = model.document
    own = document.sections[section]
    assert own.references is not None
    sections = list(document.sections)
    added = adapted_references(document, clips)
    sections[section] = replace(own, references=own.references.extended(added))
    distances = adapted_distances(document, section, clips)
    return model.with_document(replace(document, sections=tuple(sections), distances=distances))


def _cross_scores(site: Site, samples: Float32Array, clips: Sequence[Float64Array]) -> NormalScores:
    """Return the scores of each half of the new sound by what the other half teaches."""
    half = len(clips) // 2
    middle = half * site.model.document.score_samples
    first, second = clips[:half], clips[half:]
    runs: list[Float64Array] = []
    for sound, rest in ((samples[:middle], second), (samples[middle:], first)):
        collector = ScoreCollector(adapt(site.model, site.section, rest), site.section)
        collector.add([AudioBlock(sound, 0)])
        runs += collector.scores.runs
    return replace(collector.scores, runs=runs)


def _read(recordings: Sequence[Recording], channel: int, model: Model) -> Float32Array:
    """Return all of *recordings*, shape ``(n_samples,)``, at the model's rate."""
    rate = model.document.features.sample_rate
    blocks = (block for one in recordings for block in blocks_of(one, channel, rate))
    return np.concatenate([block.samples for block in blocks])


def _clips_of(model: Model, samples: Float32Array) -> list[Float64Array]:
    """Return the embeddings of the windows of each clip of ten seconds."""
    n_samples = model.document.score_samples
    starts = range(0, len(samples) - n_samples + 1, n_samples)
    clips = (samples[start : start + n_samples] for start in starts)
    return [embeddings_of(clip_outputs(model, clip)) for clip in clips]


def _added(before: Model, after: Model, section: int) -> Matrix:
    """Return the references of *after* that the model file itself has not."""
    own, extended = (one.document.sections[section].references for one in (before, after))
    assert own is not None
    assert extended is not None
    return Matrix.of(extended.values()[own.shape[0] :])


def _notes(
    site: Site,
    samples: Float32Array,
    clips: Sequence[Float64Array],
    alarms: Sequence[Path],
) -> tuple[str, ...]:
    """Return in words how the new sound compares with what was normal, and with alarms."""
    collector = ScoreCollector(site.model, site.section)
    collector.add([AudioBlock(samples, 0)])
    threshold = site.model.document.sections[site.section].threshold
    values = collector.scores.values
    notes = [
        f"the new sound scored {rounded(float(np.median(values)), 4)} before, threshold "
        f"{rounded(threshold, 4)}: {(values >= threshold).mean():.0%} of it would have spoken "
        "for an alarm"
    ]
    heard = [(path.name, one) for path in alarms for one in _alarming(site, path)]
    index = resembles(site.model.document, site.section, clips, [one for _, one in heard])
    if index is not None:
        notes.append(
            f"warning: the new sound is nearer to {heard[index][0]}, an alarm of before, than "
            "to normal sound; if the machine was faulty, take this back by --undo"
        )
    return tuple(notes)


def _alarming(site: Site, path: Path) -> list[Float64Array]:
    """Return the embeddings of those ten seconds of the clip at *path* that spoke for an alarm."""
    model = site.model
    samples = read_clip(path, 0, model.document.features.sample_rate)
    scoring = model.scoring(site.section)
    threshold = model.document.sections[site.section].threshold
    return [
        one
        for one in _clips_of(model, samples)
        if scoring.clip_value(one.mean(axis=0)) >= threshold
    ]


def _refuse_twice(old: Sequence[Recording], new: Sequence[Recording]) -> None:
    # It would count for twice as much sound as it is, half of it scored by what it taught.
    known = {path for one in old for path in one.paths}
    for path in (path for one in new for path in one.paths):
        if path in known:
            raise AudioFileError(
                f"{path}: is normal sound of before and new at once; name as FILES what was "
                "recorded before the change"
            )


def _check_method(model: Model, machine: MachineConfig) -> None:
    method = model.document.scoring.method
    if method not in BY_DISTANCE:
        raise ModelError(
            f"{machine.model}: scoring.method={method!r} must be one of {', '.join(BY_DISTANCE)} "
            "for --add-references; export the model with another --scoring"
        )


def _old_recordings(machine: MachineConfig, site: Site) -> list[Recording]:
    """Return the recordings of the calibration in force.

    Raises:
        AudioFileError: If there are none, or they are gone.
    """
    paths = [Path(one) for one in site.calibration.sources] if site.calibration else []
    if not paths or not all(path.exists() for path in paths):
        raise AudioFileError(
            f"machine={machine.name!r} needs normal sound of before for a threshold that holds for "
            "both; name it as FILES"
        )
    return find_recordings(paths)
