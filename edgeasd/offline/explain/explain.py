"""Finds which mel bands and moments made a score, and what they sound like; pure.

Attribution is by occlusion (Zeiler and Fergus, 2014, "Visualizing and understanding convolutional
networks", section 4.2): a band or a moment is replaced by the level of normal sound, and its share
is the amount by which the score falls.  This needs no gradient, so it works with every scoring
method.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeasd.common.types import Float32Array, Float64Array
from edgeasd.detect.features import FeatureSpec, log_mel
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.model.network import Model
from edgeasd.detect.model.spectrum import NormalSpectrum
from edgeasd.detect.scoring import clip_score
from edgeasd.detect.windows import slice_windows
from edgeasd.offline.explain.findings import Finding, find_differences

N_BANDS = 16
"""Bands of mel bins that are replaced by normal sound in turn."""
_MOMENT_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Explanation of a score.

    Attributes:
        score: Score of the sound.
        frames: Log-mel of the sound, shape ``(n_frames, n_mels)``, dB.
        bands: Share of each band in the score, shape ``(N_BANDS,)``.
        moments: Share of each half second in the score, shape ``(n_moments,)``.
        findings: Differences from normal sound, those with the largest share first; may be empty.
    """

    score: float
    frames: Float32Array
    bands: Float64Array
    moments: Float64Array
    findings: list[Finding]

    @property
    def words(self) -> list[str]:
        """The findings in words, or what it means that there are none."""
        if self.findings:
            return [str(finding) for finding in self.findings]
        return ["no part of the spectrum stands out: the sound differs a little in many places"]


def explain(
    model: Model, section: int, normal: NormalSpectrum, samples: Float32Array
) -> Explanation:
    """Return what made the score of *samples*.

    Args:
        model: The network and its geometry.
        section: Index of the section that the sound comes from.
        normal: Spectrum of its normal sound.
        samples: Shape ``(n_samples,)``, at the model's rate, full scale +-1.0; at least a window.

    Raises:
        ValueError: If *samples* is shorter than a window.
    """
    spec = model.document.features
    frames = log_mel(samples, spec)
    score = _scorer(model, section)
    excess = frames.mean(axis=0, dtype=np.float64) - normal.level_db
    edges = band_edges(spec.n_mels)
    bins = [np.s_[:, low:high] for low, high in itertools.pairwise(edges)]
    bands = shares(score, frames, frames - excess.astype(np.float32), bins)
    length = moment_frames(spec)
    rows = [np.s_[start : start + length, :] for start in range(0, len(frames), length)]
    usual = np.concatenate(
        [frames[each] - frames[each].mean(axis=0) + normal.level_db for each in rows]
    )
    moments = shares(score, frames, usual, rows)
    by_bin = np.repeat(bands, np.diff(edges))
    findings = find_differences(frames, normal, by_bin, samples, spec)
    return Explanation(score(frames), frames, bands, moments, findings)


def band_edges(n_mels: int) -> list[int]:
    """Return the first bin of each band and the end of the last: ``N_BANDS + 1`` numbers."""
    return [round(n_mels * index / N_BANDS) for index in range(N_BANDS + 1)]


def moment_frames(spec: FeatureSpec) -> int:
    """Return the number of frames in a moment."""
    return max(1, round(_MOMENT_S * spec.frames_per_s))


def _scorer(model: Model, section: int) -> Callable[[Float32Array], float]:
    window = model.document.window
    scoring = model.scoring(section)
    median = MedianFilter(window.median_frames)

    def score(frames: Float32Array) -> float:
        windows = slice_windows(frames, window)
        return clip_score(scoring, [model.run(median.process(values)) for values in windows])

    return score


def shares(
    score: Callable[[Float32Array], float],
    frames: Float32Array,
    usual: Float32Array,
    parts: Sequence[tuple[slice, slice]],
) -> Float64Array:
    """Return the share of each of *parts* of *frames* in the score.

    The share is the mean of two differences: the fall of the score if only this part is replaced by
    *usual*, and the rise if only this part is kept.  For a score whose terms involve at most two
    parts, such as a squared distance, that is the Shapley value.
    """
    highest, lowest = score(frames), score(usual)
    shares = np.empty(len(parts))
    for index, part in enumerate(parts):
        without, alone = frames.copy(), usual.copy()
        without[part] = usual[part]
        alone[part] = frames[part]
        shares[index] = (highest - score(without) + score(alone) - lowest) / 2.0
    return shares
