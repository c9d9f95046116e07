"""``edgeasd explain``: finds what made the highest score of a recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeasd.capture.recording.wavfile import LONGEST_CLIP_S, blocks_at, read_clip, read_part
from edgeasd.common.config.file import find_machine, load_config
from edgeasd.common.config.keys import MachineConfig
from edgeasd.common.errors import AudioFileError, ModelError
from edgeasd.common.types import Float32Array, Score
from edgeasd.detect.model.spectrum import NormalSpectrum, normal_spectrum
from edgeasd.detect.signal import SignalMeter
from edgeasd.models.cache import open_model
from edgeasd.models.calibration_file import calibrated_model
from edgeasd.offline.explain.explain import Explanation, explain
from edgeasd.offline.recordings.recordings import frames_without_flat
from edgeasd.offline.replay import Replay
from edgeasd.publish.clips.folder import find_clip, machine_of


@dataclass(frozen=True, slots=True)
class Case:
    """A recording to explain.

    Attributes:
        path: Path of the recording.
        replay: How the recording is scored.
    """

    path: Path
    replay: Replay


def replay_of(machine: MachineConfig, channel: int = 0) -> Replay:
    """Return how recordings of *machine* are scored: as the daemon does, with its calibration.

    Raises:
        EdgeasdError: If the model of the machine cannot be used.
    """
    model = calibrated_model(machine, open_model(machine.model)).model
    return Replay(model, machine.section, channel, machine.alarm)


def find_event(config_path: Path, event_id: str) -> Case:
    """Return the clip of an event of this computer, with the scoring of its machine.

    Raises:
        EdgeasdError: If there is no clip, or its machine is no longer in the configuration.
    """
    config = load_config(config_path)
    _require_readable(config.clips_dir)
    clip = find_clip(config.clips_dir, event_id)
    if clip is None:
        raise AudioFileError(
            f"{event_id}: no clip of this event is in {config.clips_dir}, where clips are written "
            f"{config.clips.after_s:g} s after the start of an alarm and kept for at most "
            f"{config.clips.max_age_days:g} days; name the id of a start event, or a recording "
            "with --machine or --model"
        )
    return Case(clip, replay_of(find_machine(config_path, machine_of(clip, event_id))))


def _require_readable(clips: Path) -> None:
    try:
        os.scandir(clips).close()
    except PermissionError as exc:
        raise AudioFileError(
            f"{clips}: cannot be read ({exc.strerror}); run the command as root, or as the "
            "daemon's user"
        ) from exc
    except OSError:
        return  # no folder, no clips


def explain_file(
    case: Case, normal_files: Sequence[Path] = ()
) -> tuple[Explanation, NormalSpectrum]:
    """Explain the highest score of a recording; return also the normal spectrum it is compared to.

    Args:
        case: The recording; one shorter than 10 s is explained as a whole.
        normal_files: Recordings of normal sound to compare with, instead of the model's spectrum.

    Raises:
        EdgeasdError: If a file or the section cannot be used, or if the model holds no spectrum of
            normal sound and there are no *normal_files*.
    """
    path, replay = case.path, case.replay
    model = replay.model
    section = model.section_index(replay.section)
    spec, window = model.document.features, model.document.window
    normal = model.normal_spectrum(section)
    if normal_files:
        normal = _spectrum_of(replay, normal_files)
    if normal is None:
        raise ModelError(
            "the model holds no spectrum of normal sound; name recordings of it with --normal"
        )
    samples = _worst_sound(path, replay)
    least = spec.n_samples(window.n_frames)
    if len(samples) < least:
        raise AudioFileError(
            f"{path}: must hold at least {least / spec.sample_rate:.1f} s of sound"
        )
    return explain(model, section, normal, samples), normal


def _spectrum_of(replay: Replay, paths: Sequence[Path]) -> NormalSpectrum:
    """Return the spectrum of recordings, without flat sound."""
    spec = replay.model.document.features
    clips = []
    for path in paths:
        blocks = blocks_at(path, replay.channel, spec.sample_rate, LONGEST_CLIP_S)
        found = frames_without_flat(blocks, spec, SignalMeter(spec.sample_rate))
        frames = np.concatenate([each.values for each in found])
        if not len(frames):
            raise AudioFileError(f"{path}: holds nothing but flat sound; name another recording")
        clips.append(frames)
    return normal_spectrum(clips)


def _worst_sound(path: Path, replay: Replay) -> Float32Array:
    """Return the ten seconds with the highest score, or the whole of a shorter file.

    Scores of flat sound, which the alarm ignores, count only if there are no others.
    """
    rate = replay.model.document.features.sample_rate
    worst = most_flat = None
    for one in replay.detections(path):
        if one.signal == "flat_signal":
            most_flat = _higher(most_flat, one.score)
        else:
            worst = _higher(worst, one.score)
    worst = worst or most_flat
    if worst is None:
        return read_clip(path, replay.channel, rate)
    return read_part(
        path,
        replay.channel,
        rate,
        first_sample=worst.first_sample,
        end_sample=worst.end_sample,
    )


def _higher(one: Score | None, other: Score) -> Score:
    return other if one is None or other.value > one.value else one


def verdict(case: Case, explanation: Explanation) -> str:
    """Return in words how the highest score of a recording compares with the threshold."""
    scores = _scores(case, explanation)
    if explanation.score < case.replay.detector.alarm.threshold:
        return f"{scores}: no alarm; the largest differences from normal sound:"
    return scores


def _scores(case: Case, explanation: Explanation) -> str:
    return f"score {explanation.score:.2f}, threshold {case.replay.detector.alarm.threshold:.2f}"


def plot_explanation(
    picture: Path, case: Case, explanation: Explanation, normal: NormalSpectrum
) -> None:
    """Draw the *explanation* of a recording into the file *picture*.

    Raises:
        EdgeasdError: If the picture cannot be drawn or written.
    """
    features = case.replay.model.document.features
    title = f"{case.path.name}: {_scores(case, explanation)}"
    from edgeasd.offline.explain.pictures import draw_explanation  # noqa: PLC0415 - needs an extra

    draw_explanation(picture, title, features, explanation, normal)
