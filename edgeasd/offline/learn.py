"""``edgeasd learn``: makes a model from minutes of normal sound, on the factory PC, in seconds.

Its first threshold follows the rule of `edgeasd.offline.calibration.calibrate`, where it is
compared with the rule of the trainer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import edgeasd
from edgeasd import __version__
from edgeasd.baseline.alarm_rate import WEEK_S, AlarmRate
from edgeasd.baseline.learning import (
    CLIP_WINDOWS,
    FEATURES,
    SCORING,
    WINDOW,
    cross_scores,
    cut_clips,
    learn,
)
from edgeasd.baseline.tail import Rate
from edgeasd.common.config.keys import MachineConfig
from edgeasd.common.errors import ModelError
from edgeasd.common.files.whole_file import exclusively, replace_file, require_writable
from edgeasd.common.text import rounded
from edgeasd.common.types import Float32Array
from edgeasd.detect.model.document import (
    METADATA_KEY,
    DistanceDocument,
    ModelDocument,
    SectionDocument,
)
from edgeasd.detect.model.matrix import Matrix
from edgeasd.detect.model.network import Model
from edgeasd.detect.model.onnx_file import with_metadata
from edgeasd.detect.model.spectrum import normal_spectrum
from edgeasd.detect.signal import Defect, SignalMeter, defect_notes
from edgeasd.models.detector import alarm_spec
from edgeasd.offline.recordings.limits import (
    refuse_longer,
    refuse_too_few,
    refuse_too_little,
    refuse_too_much,
)
from edgeasd.offline.recordings.recordings import (
    Progress,
    Recording,
    blocks_of,
    digest,
    frames_without_flat,
    limitations,
)

TEMPLATE = Path(edgeasd.__file__).parent / "models" / "mean.onnx"
ENOUGH_S = 600.0
"""Seconds of normal sound that are recommended."""
LEAST_S = 270.0
"""With less sound, both the covariance of 128 mel bins and a threshold would be guesswork."""
_INSENSITIVE = 4.0
"""Above this ratio of threshold to median score the benchmark's faults were mostly missed."""
FIRST_BUDGET = 1.0 / WEEK_S
"""Budget of the first threshold, false alarms a second: one a week."""

_CLIP_FRAMES = CLIP_WINDOWS * WINDOW.hop_frames
_CLIP_S = _CLIP_FRAMES / FEATURES.frames_per_s
_N_SPECTRUM = 50
"""About as many clips, evenly spaced, give the spectrum of normal sound."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A model that was learned.

    Attributes:
        path: Path of the model file.
        n_clips: Clips of ten seconds that it was learned from.
        n_recordings: Recordings that the clips were cut from.
        typical: Median score of the sound, each part scored by a model of the other parts.
        threshold: First threshold of the model.
        rate: Expected false alarms a second at that threshold.
        notes: What else the user must know about the sound.
    """

    path: Path
    n_clips: int
    n_recordings: int
    typical: float
    threshold: float
    rate: Rate
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return in words what was learned, and how far it can be trusted."""
        sound_s = self.n_clips * _CLIP_S
        rates = (self.rate.expected, self.rate.low, self.rate.high)
        expected, low, high = (rounded(rate * WEEK_S, 2) for rate in rates)
        lines = [
            *self.notes,
            f"learned from {self.n_clips} clips of 10 s ({sound_s / 60.0:.0f} min) from "
            f"{self.n_recordings} recording{'s' if self.n_recordings > 1 else ''}",
            f"typical score {rounded(self.typical, 4)}",
            f"first threshold {rounded(self.threshold, 4)}; expected false alarms: {expected} a "
            f"week (95 % interval: {low} to {high} a week)",
        ]
        if sound_s < 0.95 * ENOUGH_S:
            lines.append(
                f"warning: {sound_s / 60.0:.0f} min of sound are too little for a good model; "
                f"learn from {ENOUGH_S / 60.0:.0f} min or more"
            )
        if self.threshold > _INSENSITIVE * self.typical:
            lines.append(
                f"warning: the threshold is {self.threshold / self.typical:.0f} times the typical "
                "score, so faint faults would be missed; learn from more sound, or calibrate"
            )
        return [*lines, f"model stored in {self.path}; set its threshold with 'edgeasd calibrate'"]


def learn_machine(
    machine: MachineConfig,
    recordings: Sequence[Recording],
    channel: int,
    *,
    over: bool = False,
    progress: Progress = lambda _: None,
) -> Learned:
    """Write a model of *machine* to the path in its configuration.

    Args:
        machine: Configuration of the machine.
        recordings: Recordings of normal sound.
        channel: Channel of the files, counted from 0.
        over: Whether to replace an existing model.
        progress: Called with the seconds of sound read since the last call.

    Raises:
        EdgeasdError: If there is a model already, too little sound, or a file cannot be used.
    """
    require_writable(machine.model)
    _refuse_to_replace(machine.model, over=over)
    refuse_too_much(recordings)
    rows, frames, defective_s = _read(recordings, channel, progress)
    clips = cut_clips(rows, CLIP_WINDOWS)
    notes = (*limitations(recordings, FEATURES), *defect_notes(defective_s))
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
        normal.references[0],
        Matrix(normal_spectrum(frames).rows()),
    )
    training = {
        "recipe": "edgeasd learn",
        "n_clips": len(clips),
        "recordings": [digest(path) for one in recordings for path in one.paths],
        "versions": {"edgeasd": __version__},
    }
    content = _content(machine, section, normal.distances, training)
    with exclusively(machine.model):
        _refuse_to_replace(machine.model, over=over)
        replace_file(machine.model, content)
    typical = float(np.median(scores.values))
    expected, _ = rate.at(threshold)
    return Learned(machine.model, len(clips), len(recordings), typical, threshold, expected, notes)


def _refuse_to_replace(model: Path, *, over: bool) -> None:
    if model.exists() and not over:
        raise ModelError(
            f"{model}: already exists; add --replace, or name another file as machine.model in the "
            "configuration"
        )


def _content(
    machine: MachineConfig,
    section: SectionDocument,
    distances: tuple[DistanceDocument, ...],
    training: dict[str, object],
) -> bytes:
    """Return the bytes of the model file, after loading them as the daemon does."""
    now = datetime.now(timezone.utc)
    document = ModelDocument(
        id=f"{machine.name}-learned",
        version=f"{now:%Y.%m.%d}",
        created=now.isoformat(timespec="seconds"),
        machine_type=machine.name,
        features=FEATURES,
        window=WINDOW,
        scoring=SCORING,
        sections=(section,),
        distances=distances,
        training=training,
    )
    content = with_metadata(TEMPLATE.read_bytes(), METADATA_KEY, document.to_json())
    Model(content, str(machine.model))
    return content


def _read(
    recordings: Sequence[Recording], channel: int, progress: Progress
) -> tuple[list[Float32Array], list[Float32Array], dict[Defect, float]]:
    """Return the embeddings of each recording, frames of some clips, and seconds of each defect."""
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
    """Yield the log-mel frames of ten seconds at a time, without flat sound; a rest is left out.

    A clip may reach across a gap, but none of its windows does.
    """
    pending = np.empty((0, FEATURES.n_mels), np.float32)
    expected = 0
    blocks = blocks_of(recording, channel, FEATURES.sample_rate)
    for frames in frames_without_flat(blocks, FEATURES, meter):
        if frames.first_sample != expected:
            pending = pending[: len(pending) // WINDOW.n_frames * WINDOW.n_frames]
        expected = frames.first_sample + len(frames.values) * FEATURES.hop_length
        pending = np.concatenate((pending, frames.values))
        n_used = len(pending) // _CLIP_FRAMES * _CLIP_FRAMES
        yield from pending[:n_used].reshape(-1, _CLIP_FRAMES, FEATURES.n_mels)
        pending = pending[n_used:]
