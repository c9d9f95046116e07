"""``edgeasd explain`` and ``edgeasd score --plot``: what was heard in a recording."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeasd.capture.recording.wavfile import LONGEST_CLIP_S, blocks_at, read_clip, read_part
from edgeasd.common.config import MachineConfig
from edgeasd.common.config_file import find_machine, load_config
from edgeasd.common.errors import AudioFileError, EdgeasdError, ModelError
from edgeasd.common.output import say
from edgeasd.common.types import Float32Array, Score
from edgeasd.detect.features import log_mel
from edgeasd.detect.model.spectrum import NormalSpectrum, normal_spectrum
from edgeasd.detect.pipeline import Detection
from edgeasd.detect.signal import SignalMeter, joined, sounding
from edgeasd.models.cache import open_model
from edgeasd.models.calibration_file import calibrated_model
from edgeasd.offline.explain.explain import Explanation, explain
from edgeasd.offline.recordings.recordings import look_at, shortcomings
from edgeasd.offline.replay import Replay
from edgeasd.publish.clips.folder import find_clip, machine_of


@dataclass(frozen=True, slots=True)
class Case:
    """A recording that is to be explained.

    Attributes:
        path: The file.
        replay: How it is scored.
    """

    path: Path
    replay: Replay


def replay_of(machine: MachineConfig, channel: int = 0) -> Replay:
    """Return how recordings of *machine* are scored: as by the daemon, with what was learned here.

    Raises:
        EdgeasdError: If its model cannot be used.
    """
    model = calibrated_model(machine, open_model(machine.model)).model
    return Replay(model, machine.section, channel, machine.alarm)


def find_event(config_path: Path, event_id: str) -> Case:
    """Return the clip of an event of this computer, scored as its machine is.

    Raises:
        EdgeasdError: If there is none, or its machine is no longer known.
    """
    config = load_config(config_path)
    _require_readable(config.clips_dir)
    clip = find_clip(config.clips_dir, event_id)
    if clip is None:
        raise AudioFileError(
            f"{event_id}: no clip of this event is in {config.clips_dir}, where it comes "
            f"{config.clips.after_s:g} s after the alarm's start and stays for at most "
            f"{config.clips.max_age_days:g} days; name the id of a start, or a recording with "
            "--machine or --model"
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
        return  # without a folder there are no clips


def explain_file(
    case: Case, normal_files: Sequence[Path] = ()
) -> tuple[Explanation, NormalSpectrum]:
    """Return what made the highest score of a recording, and what was normal.

    Args:
        case: The recording; one of less than 10 s is taken whole.
        normal_files: Recordings of normal sound to compare with in place of what the model says.

    Raises:
        EdgeasdError: If a file or the section cannot be used, or the model does not say how loud
            normal sound is and there are no *normal_files*.
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
            "the model does not say how loud normal sound is; name recordings of it with --normal"
        )
    samples = _worst_sound(path, replay)
    least = spec.n_samples(window.n_frames)
    if len(samples) < least:
        raise AudioFileError(f"{path}: must hold at least {least / spec.sample_rate:.1f} s")
    return explain(model, section, normal, samples), normal


def _spectrum_of(replay: Replay, paths: Sequence[Path]) -> NormalSpectrum:
    """Return how loud the sound of recordings is, where it is not flat."""
    spec = replay.model.document.features
    clips = []
    for path in paths:
        blocks = blocks_at(path, replay.channel, spec.sample_rate, LONGEST_CLIP_S)
        runs = joined(sounding(blocks, SignalMeter(spec.sample_rate)))
        frames = np.concatenate([log_mel(run.samples, spec) for run in runs])
        if not len(frames):
            raise AudioFileError(f"{path}: holds no sound to compare with; name another recording")
        clips.append(frames)
    return normal_spectrum(clips)


def _worst_sound(path: Path, replay: Replay) -> Float32Array:
    """Return the ten seconds with the highest score that the alarm heard; a shorter file whole."""
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
    """Return in words how the highest score of a recording stands to the threshold."""
    scores = _scores(case, explanation)
    if explanation.score < case.replay.detector.alarm.threshold:
        return f"{scores}: no alarm; what it has beside the usual:"
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


def score_rows(
    replay: Replay,
    paths: Sequence[Path],
    *,
    whole: bool,
    pictures: Path | None,
    on_failure: Callable[[EdgeasdError], None],
    progress: Callable[[int], None],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of recordings: of every score, or if *whole* of each recording.

    Args:
        replay: How they are scored.
        paths: The recordings.
        whole: Whether a row is of a whole recording.
        pictures: Folder for a picture of each, if they are wanted.
        on_failure: Is told why a recording cannot be scored; those after it are.
        progress: Is told of each recording that is done.

    Raises:
        EdgeasdError: If the section cannot be used, or a picture cannot be written.
    """
    if pictures is not None:
        # What it needs and is missing is told before the work, not after it.
        importlib.import_module("edgeasd.offline.explain.pictures")
    replay.detector  # noqa: B018 - a section that is not there is no fault of a file
    drawn: Counter[str] = Counter()
    for path in paths:
        try:
            detections = yield from _rows_of(replay, path, whole=whole, keep=pictures is not None)
            if pictures is not None:
                # Recordings of one name, of several folders, have a picture each.
                number = f"-{drawn[path.stem]}" if drawn[path.stem] else ""
                drawn[path.stem] += 1
                _plot_scores(pictures / f"{path.stem}{number}.png", replay, path, detections)
        except (AudioFileError, ModelError) as exc:
            on_failure(exc)
        progress(1)


def _rows_of(
    replay: Replay, path: Path, *, whole: bool, keep: bool
) -> Generator[dict[str, Any], None, list[Detection]]:
    """Yield the rows of a recording, and return its scores if they are to be *keep*-t."""
    for words in shortcomings([look_at(path, replay.channel)], replay.model.document.features):
        say(f"edgeasd: {words}", err=True)
    if whole:
        yield replay.clip(path)
        return list(replay.detections(path)) if keep else []
    kept: list[Detection] = []
    n_rows = 0
    for one in replay.detections(path):
        n_rows += 1
        if keep:
            kept.append(one)
        yield replay.row(path, one)
    if not n_rows:
        _tell_too_short(replay, path)
    return kept


def _tell_too_short(replay: Replay, path: Path) -> None:
    document = replay.model.document
    least_s = document.score_samples / document.features.sample_rate
    say(
        f"edgeasd: {path}: is shorter than the {least_s:.1f} s that a score rests on; "
        "--per clip scores what there is",
        err=True,
    )


def _plot_scores(
    picture: Path, replay: Replay, path: Path, detections: Sequence[Detection]
) -> None:
    """Draw log-mel, scores and alarms of the recording at *path*, if it holds a frame."""
    spec = replay.model.document.features
    alarm = replay.detector.alarm
    frames = log_mel(read_clip(path, replay.channel, spec.sample_rate), spec)
    if not len(frames):
        return
    from edgeasd.offline.explain.pictures import draw_scores  # noqa: PLC0415 - needs an extra

    draw_scores(
        picture,
        path.name,
        frames,
        spec,
        detections=detections,
        thresholds=(alarm.threshold, alarm.clear_threshold),
    )
