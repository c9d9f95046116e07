"""Finds the test clips that a system gets most wrong, and draws their difference from normal."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.common.errors import AudioFileError
from edgeasd.common.types import Float32Array
from edgeasd.detect.features import FeatureSpec, log_mel
from edgeasd.offline.explain.pictures import draw_frames, limits
from edgeasd.offline.figure import WIDTH, in_style
from train.data.clips import Clip
from train.report.plots import ScoredClip, of_group, printable, thinned, to_png

_N_CLIPS = 3
_N_NORMAL = 30
"""Training clips for the mean of normal sound; more would not change it visibly."""
_SMOOTHED_S = 0.5
"""Length of the average along time; single frames of noise vary by 5 dB and hide what lasts."""


@dataclass(frozen=True, slots=True, eq=False)
class Miss:
    """A clip on the wrong side of its threshold, or nearest to it.

    Attributes:
        scored: The clip with its score.
        threshold: Threshold of its section.
        frames: Log-mel, shape ``(n_frames, n_mels)``, dB; no rows if the clip cannot be read.
        fault: Why the clip cannot be drawn, with its path; empty if it can.
        normal: Mean log-mel of normal training clips, shape ``(n_mels,)``, dB; nan without any.
        n_normal: Number of those training clips.
    """

    scored: ScoredClip
    threshold: float
    frames: Float32Array
    fault: str
    normal: Float32Array
    n_normal: int

    @property
    def verdict(self) -> str:
        """Decision on the clip in words."""
        alarm = self.scored.score >= self.threshold
        if self.scored.clip.label == "anomaly":
            return "found" if alarm else "missed"
        return "false alarm" if alarm else "no alarm"

    @property
    def compared(self) -> str:
        """Description of what the clip is compared with."""
        if not self.n_normal:
            return "no training clip to compare with"
        return f"less the mean of {self.n_normal} training clips"


def find_misses(
    train: Sequence[ScoredClip],
    tests: Sequence[ScoredClip],
    thresholds: Mapping[str, float],
    label: str,
    spec: FeatureSpec,
) -> list[Miss]:
    """Return the three clips of *label* that are furthest on the wrong side, the worst first.

    The distance is measured from the threshold of the section.  Clips without a finite score are
    left out.  A clip is compared with training clips of its section and domain, or of the whole
    section if there is none of that domain.

    Args:
        train: Training clips.
        tests: Test clips.
        thresholds: Threshold of each section.
        label: ``normal`` or ``anomaly``.
        spec: Geometry of the log-mel frames.
    """
    sign = -1.0 if label == "normal" else 1.0
    margins = [
        (sign * (one.score - thresholds.get(one.clip.section, math.nan)), i)
        for i, one in enumerate(tests)
        if one.clip.label == label
    ]
    worst = sorted(pair for pair in margins if math.isfinite(pair[0]))[:_N_CLIPS]
    return [_look_at(tests[i], train, thresholds, spec) for _, i in worst]


@in_style
def draw_misses(misses: Sequence[Miss], spec: FeatureSpec) -> bytes | None:
    """Return a picture of each clip and its difference from normal; `None` if none was read."""
    drawn = [miss for miss in misses if len(miss.frames)]
    if not drawn:
        return None
    figure = Figure(figsize=(WIDTH, 0.2 + 2.3 * len(drawn)), layout="constrained")
    rows = figure.subplots(len(drawn), 2, sharex="row", squeeze=False)
    differences = [_difference(miss, spec) for miss in drawn]
    levels = limits([miss.frames for miss in drawn])
    furthest = max(map(abs, limits(differences)))
    for miss, difference, row in zip(drawn, differences, rows, strict=True):
        left = draw_frames(row[0], miss.frames, spec, "magma", levels)
        right = draw_frames(row[1], difference, spec, "RdBu_r", (-furthest, furthest))
        row[0].set_title(printable(miss.scored.clip.path.name))
        row[1].set_title(f"{miss.verdict}, score {miss.scored.score:.3g}; {miss.compared}")
    for axes in rows[-1]:
        axes.set_xlabel("time (s)")
    figure.colorbar(left, ax=rows[:, 0].tolist(), label="log-mel (dB)", aspect=40)
    figure.colorbar(right, ax=rows[:, 1].tolist(), label="above normal (dB)", aspect=40)
    return to_png(figure)


def _look_at(
    scored: ScoredClip,
    train: Sequence[ScoredClip],
    thresholds: Mapping[str, float],
    spec: FeatureSpec,
) -> Miss:
    frames, fault = np.empty((0, spec.n_mels), np.float32), ""
    try:
        frames = _read_frames(scored.clip, spec)
    except AudioFileError as exc:
        fault = str(exc)
    else:
        if not len(frames):
            fault = f"{scored.clip.path}: is shorter than a frame of {spec.n_fft} samples"
    normal, n_normal = _normal_spectrum(scored.clip, train, spec)
    return Miss(scored, thresholds[scored.clip.section], frames, fault, normal, n_normal)


def _normal_spectrum(
    clip: Clip, train: Sequence[ScoredClip], spec: FeatureSpec
) -> tuple[Float32Array, int]:
    """Return the mean log-mel spectrum of the training clips like *clip*, and their number."""
    section = [one for one in train if one.clip.section == clip.section]
    alike = of_group(section, clip.section, clip.domain) or section
    means = []
    for one in thinned(alike, _N_NORMAL):
        with contextlib.suppress(AudioFileError):
            frames = _read_frames(one.clip, spec)
            means += [frames.mean(axis=0)] if len(frames) else []
    if not means:
        return np.full(spec.n_mels, np.nan, np.float32), 0
    return np.mean(means, axis=0, dtype=np.float32), len(means)


def _read_frames(clip: Clip, spec: FeatureSpec) -> Float32Array:
    return log_mel(read_clip(clip.path, clip.channel, spec.sample_rate), spec)


def _difference(miss: Miss, spec: FeatureSpec) -> Float32Array:
    n_smoothed = max(1, round(_SMOOTHED_S * spec.frames_per_s))
    smooth: Float32Array = uniform_filter1d(miss.frames, n_smoothed, axis=0, mode="nearest")
    return smooth - miss.normal
