"""``edgeasd score``: rows and pictures of the scores of recordings."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.common.errors import AudioFileError, EdgeasdError, ModelError
from edgeasd.common.output import say
from edgeasd.detect.features import log_mel
from edgeasd.detect.pipeline import Detection
from edgeasd.offline.recordings.recordings import limitations, look_at
from edgeasd.offline.replay import Replay


def score_rows(
    replay: Replay,
    paths: Sequence[Path],
    *,
    whole: bool,
    pictures: Path | None,
    on_failure: Callable[[EdgeasdError], None],
    progress: Callable[[int], None],
) -> Iterator[dict[str, Any]]:
    """Yield a row for each score of recordings, or if *whole*, for each recording.

    Args:
        replay: How the recordings are scored.
        paths: Paths of the recordings.
        whole: Whether a row describes a whole recording.
        pictures: Folder for a picture of each recording; `None` draws none.
        on_failure: Called with the reason if a recording cannot be scored; the others still are.
        progress: Called with 1 after each recording.

    Raises:
        EdgeasdError: If the section cannot be used, or a picture cannot be written.
    """
    if pictures is not None:
        # A missing library is reported before the work, not after it.
        importlib.import_module("edgeasd.offline.explain.pictures")
    replay.detector  # noqa: B018 - a missing section is not the fault of a file
    drawn: Counter[str] = Counter()
    for path in paths:
        try:
            detections = yield from _rows_of(replay, path, whole=whole, keep=pictures is not None)
            if pictures is not None:
                # Recordings of the same name in several folders each have a picture.
                number = f"-{drawn[path.stem]}" if drawn[path.stem] else ""
                drawn[path.stem] += 1
                _plot_scores(pictures / f"{path.stem}{number}.png", replay, path, detections)
        except (AudioFileError, ModelError) as exc:
            on_failure(exc)
        progress(1)


def _rows_of(
    replay: Replay, path: Path, *, whole: bool, keep: bool
) -> Generator[dict[str, Any], None, list[Detection]]:
    """Yield the rows of a recording; return its detections if *keep*, else an empty list."""
    for words in limitations([look_at(path, replay.channel)], replay.model.document.features):
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
        f"edgeasd: {path}: is shorter than the {least_s:.1f} s that a score needs; "
        "score it as a whole with --per clip",
        err=True,
    )


def _plot_scores(
    picture: Path, replay: Replay, path: Path, detections: Sequence[Detection]
) -> None:
    """Draw log-mel, scores and alarms of the recording at *path*, if it holds any frame."""
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
