"""``edgeasd learn``: a model from minutes of normal sound, on the factory PC, in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import edgeasd
from edgeasd import __version__
from edgeasd.baseline.alarm_rate import LEAST_DECISIONS, WEEK_S, AlarmRate, NormalScores
from edgeasd.baseline.learning import CLIP_WINDOWS, FEATURES, WINDOW, cross_scores, cut_clips, learn
from edgeasd.baseline.tail import Rate
from edgeasd.common.config import MachineConfig
from edgeasd.common.errors import AudioFileError, ModelError
from edgeasd.common.files.whole_file import exclusively, replace_file, require_writable
from edgeasd.common.text import rounded
from edgeasd.common.types import Float32Array
from edgeasd.detect.features import LogMel
from edgeasd.detect.model.document import (
    DistanceDocument,
    Matrix,
    ModelDocument,
    ScoringDocument,
    SectionDocument,
    with_metadata,
)
from edgeasd.detect.model.network import Model
from edgeasd.detect.model.spectrum import normal_spectrum
from edgeasd.detect.signal import Defect, SignalMeter, defect_notes, joined, sounding
from edgeasd.models.detector import alarm_spec
from edgeasd.offline.recordings.recordings import (
    Progress,
    Recording,
    blocks_of,
    refuse_longer,
    refuse_too_much,
    shortcomings,
)

TEMPLATE = Path(edgeasd.__file__).parent / "models" / "mean.onnx"
ENOUGH_S = 600.0
LEAST_S = 270.0
"""Below, neither the covariance of 128 mel bins nor a threshold is more than guesswork."""
_DEAF = 4.0
"""First thresholds so many times the typical score caught few of the benchmark's broken blades."""
FIRST_BUDGET = 1.0 / WEEK_S
"""False alarms a second: one a week."""

_CLIP_FRAMES = CLIP_WINDOWS * WINDOW.hop_frames
_CLIP_S = _CLIP_FRAMES / FEATURES.frames_per_s
_N_SPECTRUM = 50


@dataclass(frozen=True, slots=True)
class Learned:
    """A model that was made.

    Attributes:
        path: Where it is.
        n_clips: Clips of ten seconds that it was learned from.
        n_recordings: Recordings that they were cut from.
        typical: Median score of the sound, each stretch of it by what the rest taught.
        threshold: Its first threshold.
        rate: False alarms a second to expect at it.
        notes: What else is to be said of the sound.
    """

    path: Path
    n_clips: int
    n_recordings: int
    typical: float
    threshold: float
    rate: Rate
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return in words what was learned, and what it is worth."""
        sound_s = self.n_clips * _CLIP_S
        rates = (self.rate.expected, self.rate.low, self.rate.high)
        expected, low, high = (rounded(rate * WEEK_S, 2) for rate in rates)
        lines = [
            *self.notes,
            f"learned from {self.n_clips} clips of 10 s, {sound_s / 60.0:.0f} min, of "
            f"{self.n_recordings} recording{'s' if self.n_recordings > 1 else ''}",
            f"typical score {rounded(self.typical, 4)}",
            f"first threshold {rounded(self.threshold, 4)}: {expected} false alarms a week "
            f"to expect, 95 % interval {low} to {high}",
        ]
        if sound_s < 0.95 * ENOUGH_S:
            lines.append(
                f"warning: {sound_s / 60.0:.0f} min are little; learn from "
                f"{ENOUGH_S / 60.0:.0f} min or more"
            )
        if self.threshold > _DEAF * self.typical:
            lines.append(
                f"warning: the threshold is {self.threshold / self.typical:.0f} times the typical "
                "score, which faint faults do not reach; learn from more sound, or calibrate"
            )
        return [*lines, f"model in {self.path}; set its threshold by 'edgeasd calibrate'"]


def learn_machine(
    machine: MachineConfig,
    recordings: Sequence[Recording],
    channel: int,
    *,
    over: bool = False,
    progress: Progress = lambda _: None,
) -> Learned:
    """Write a model for *machine* to where the configuration expects it.

    Args:
        machine: Configuration of the machine.
        recordings: Normal sound.
        channel: Channel of the files, counted from 0.
        over: Whether to replace a model that is there.
        progress: Is told of the sound that was read.

    Raises:
        EdgeasdError: If there is a model already, too little sound, or a file cannot be used.
    """
    require_writable(machine.model)
    _refuse_to_replace(machine.model, over=over)
    refuse_too_much(recordings)
    rows, frames, defective_s = _read(recordings, channel, progress)
    clips = cut_clips(rows, CLIP_WINDOWS)
    notes = (*shortcomings(recordings, FEATURES), *defect_notes(defective_s))
    refuse_too_little(len(clips) * _CLIP_S, LEAST_S, notes)
    spec = alarm_spec(machine.alarm, SectionDocument("", 0.0, 0.0), FEATURES.sample_rate)
    scores = cross_scores(rows)
    refuse_too_few(scores)
    rate = AlarmRate(scores, spec)
    threshold = rate.threshold(FIRST_BUDGET)
    normal = learn(clips)
    section = SectionDocument(
        machine.section or "00",
        threshold,
        rate.clear_threshold(threshold),
        Matrix.of(normal.references[0]),
        Matrix.of(normal_spectrum(frames).rows()),
    )
    distances = tuple(
        DistanceDocument(weight, Matrix.of(values)) for weight, values in normal.distances
    )
    training = {
        "recipe": "edgeasd learn",
        "n_clips": len(clips),
        "recordings": [digest(path) for one in recordings for path in one.paths],
        "versions": {"edgeasd": __version__},
    }
    content = _content(machine, section, distances, training)
    with exclusively(machine.model):
        _refuse_to_replace(machine.model, over=over)
        replace_file(machine.model, content)
    typical = float(np.median(scores.values))
    expected, _ = rate.at(threshold)
    return Learned(machine.model, len(clips), len(recordings), typical, threshold, expected, notes)


def _refuse_to_replace(model: Path, *, over: bool) -> None:
    if model.exists() and not over:
        raise ModelError(
            f"{model}: is there already; add --replace, or name another file as machine.model in "
            "the configuration"
        )


def refuse_too_little(sound_s: float, least_s: float, notes: Sequence[str] = ()) -> None:
    """Check that there is as much sound as is needed.

    Args:
        sound_s: Seconds that there are.
        least_s: Seconds that there must be.
        notes: What else was found of the sound.

    Raises:
        AudioFileError: If not; the message says how much more.
    """
    if sound_s < least_s:
        raise _too_little(sound_s, least_s, notes)


def refuse_too_few(scores: NormalScores, raise_after: int = 1, notes: Sequence[str] = ()) -> None:
    """Check that there is enough sound for a threshold.

    Args:
        scores: Scores of normal sound.
        raise_after: Consecutive scores that raise the alarm; some must be as many in a row.
        notes: What else was found of the sound.

    Raises:
        AudioFileError: If not; the message says how much more.
    """
    in_a_row = any(len(run) >= raise_after for run in scores.runs)
    if scores.decisions < LEAST_DECISIONS or not in_a_row:
        score_s = scores.span / scores.sample_rate
        least_s = (LEAST_DECISIONS + 1) * score_s
        raise _too_little(scores.duration_s + score_s, least_s, notes)


def _too_little(sound_s: float, least_s: float, notes: Sequence[str]) -> AudioFileError:
    missing_s = max(least_s - sound_s, 6.0)  # told in tenths of a minute
    return AudioFileError(
        "; ".join(
            [
                f"normal sound={sound_s / 60.0:.1f} min must be at least {least_s / 60.0:.1f} min "
                f"in pieces of 10 s or more that are not silent; record {missing_s / 60.0:.1f} min "
                "more",
                *notes,
            ]
        )
    )


def digest(path: Path) -> str:
    """Return what a recording is known by: the start of its SHA-256, hexadecimal."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            sha256.update(piece)
    return sha256.hexdigest()[:16]


def _content(
    machine: MachineConfig,
    section: SectionDocument,
    distances: tuple[DistanceDocument, ...],
    training: dict[str, object],
) -> bytes:
    """Return the bytes of the model file, which the daemon has taken once already."""
    now = datetime.now(timezone.utc)
    document = ModelDocument(
        id=f"{machine.name}-learned",
        version=f"{now:%Y.%m.%d}",
        created=now.isoformat(timespec="seconds"),
        machine_type=machine.name,
        features=FEATURES,
        window=WINDOW,
        scoring=ScoringDocument("mahalanobis", clip_windows=CLIP_WINDOWS),
        sections=(section,),
        distances=distances,
        training=training,
    )
    content = with_metadata(TEMPLATE.read_bytes(), document)
    Model(content, str(machine.model))
    return content


def _read(
    recordings: Sequence[Recording], channel: int, progress: Progress
) -> tuple[list[Float32Array], list[Float32Array], dict[Defect, float]]:
    """Return embeddings of each recording, frames of some clips, and seconds with each defect."""
    n_clips = sum(one.duration_s for one in recordings) / _CLIP_S
    every = max(1, int(n_clips / _N_SPECTRUM))
    rows, some, n_read = [], [], 0
    defective_s: dict[Defect, float] = {}
    for recording in recordings:
        own = [np.empty((0, FEATURES.n_mels), np.float32)]
        meter = SignalMeter(FEATURES.sample_rate)
        for frames in _clips_of(recording, channel, meter):
            progress(_CLIP_S)
            own.append(frames.reshape(-1, WINDOW.n_frames, FEATURES.n_mels).mean(axis=1))
            if n_read % every == 0:
                some.append(frames)
            n_read += 1
            refuse_longer(n_read * _CLIP_S)
        rows.append(np.concatenate(own))
        for defect, n_samples in meter.n_defective.items():
            before = defective_s.get(defect, 0.0)
            defective_s[defect] = before + n_samples / FEATURES.sample_rate
    return rows, some, defective_s


def _clips_of(recording: Recording, channel: int, meter: SignalMeter) -> Iterator[Float32Array]:
    """Yield the log-mel frames of 10 s after 10 s of what is not flat, whole clips only.

    No window goes over a gap; a clip may.
    """
    log_mel = LogMel(FEATURES)
    pending = np.empty((0, FEATURES.n_mels), np.float32)
    expected = 0
    blocks = sounding(blocks_of(recording, channel, FEATURES.sample_rate), meter)
    # A few seconds at a time: their frames cost half as much.
    for block in joined(blocks, _CLIP_FRAMES * FEATURES.hop_length):
        if block.first_sample != expected:
            log_mel.reset()
            pending = pending[: len(pending) // WINDOW.n_frames * WINDOW.n_frames]
        expected = block.first_sample + len(block.samples)
        pending = np.concatenate((pending, log_mel.process(block).values))
        n_used = len(pending) // _CLIP_FRAMES * _CLIP_FRAMES
        yield from pending[:n_used].reshape(-1, _CLIP_FRAMES, FEATURES.n_mels)
        pending = pending[n_used:]
