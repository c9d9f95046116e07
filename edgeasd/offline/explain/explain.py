"""Which mel bands and moments made a score, and what they sound like; pure.

Attribution is by occlusion (Zeiler and Fergus, 2014, "Visualizing and understanding convolutional
networks", section 4.2): a band, or a second, is brought back to the level of normal sound, and what
the score falls by is its share.  No gradient is needed, so it holds for every scoring method.
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
"""Groups of mel bins that are brought back to normal in turn."""
_MOMENT_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What made a score.

    Attributes:
        score: Of the sound.
        frames: Its log-mel, shape ``(n_frames, n_mels)``, dB.
        bands: What the score falls by if a band is brought back to normal, shape ``(N_BANDS,)``.
        moments: The same for each half of a second, shape ``(n_moments,)``.
        findings: What is not normal, the most telling first; may be empty.
    """

    score: float
    frames: Float32Array
    bands: Float64Array
    moments: Float64Array
    findings: list[Finding]

    @property
    def words(self) -> list[str]:
        """The findings, or what their absence means."""
        if self.findings:
            return [str(finding) for finding in self.findings]
        return ["no part of the spectrum stands out: the sound differs a little in many"]


def explain(
    model: Model, section: int, normal: NormalSpectrum, samples: Float32Array
) -> Explanation:
    """Return what makes the score of *samples*.

    Args:
        model: The network and its geometry.
        section: Index of the section that the sound comes from.
        normal: How loud its normal sound is.
        samples: At the model's rate, shape ``(n_samples,)``, full scale +-1.0; at least a window.

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
    """Return the first bin of each band, and the end: ``N_BANDS + 1`` numbers."""
    return [round(n_mels * index / N_BANDS) for index in range(N_BANDS + 1)]


def moment_frames(spec: FeatureSpec) -> int:
    """Return how many frames a moment has."""
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
    """Return what each of *parts* of *frames* adds to the score.

    The mean of what is lost if the part alone becomes as usual, and what is gained if it alone
    does not: the Shapley value of any score without terms of more than two parts, such as a squared
    distance.
    """
    highest, lowest = score(frames), score(usual)
    shares = np.empty(len(parts))
    for index, part in enumerate(parts):
        without, alone = frames.copy(), usual.copy()
        without[part] = usual[part]
        alone[part] = frames[part]
        shares[index] = (highest - score(without) + score(alone) - lowest) / 2.0
    return shares
