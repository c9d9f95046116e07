"""A model of one section from normal sound alone, in closed form: day one of a machine.

The embedding is the mean log-mel of a window; the score is the distance of ten seconds of it to
the mean of normal sound, as recipe ``edge`` of the trainer measures it.  On the fan benchmark (one
section at a time, ten minutes) it ranks clips like the plain Mahalanobis distance, AUC 0.999 and
1.000, leaves faults further above normal sound, and takes in new sound far better: see
`edgeasd.baseline.adaptation`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeasd.baseline.alarm_rate import NormalScores
from edgeasd.baseline.covariance import MahalanobisRecipe, NormalSound, learn_mahalanobis
from edgeasd.common.types import Float32Array, Float64Array, Window
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.model.document import ScoringDocument
from edgeasd.detect.model.methods import make_scoring
from edgeasd.detect.scoring import ClipScorer, NetworkOutput, Scoring
from edgeasd.detect.windows import WindowSpec

FEATURES = FeatureSpec()
WINDOW = WindowSpec(n_frames=8, hop_frames=8, median_frames=1)
CLIP_WINDOWS = 38
"""Windows that a score rests on, 10 s; what is learned from is cut into clips of as many."""
SCORING = ScoringDocument("mahalanobis", clip_windows=CLIP_WINDOWS)
RECIPE = MahalanobisRecipe(anomaly_prior=True)
"""Recipe ``edge`` of the trainer, as far as one section of one domain has anything to tell."""

_N_FOLDS = 10
_LEAST_FOLD = 5
"""Clips in a fold: its scores begin with the second clip."""


def cut_clips(recordings: Sequence[Float32Array], n_windows: int) -> list[Float64Array]:
    """Return clips of *n_windows* windows; what does not fill one is left out.

    Args:
        recordings: Embeddings of the windows of each, shape ``(n_windows, n_dims)``.
        n_windows: Windows in a clip.
    """
    return [
        rows[start : start + n_windows].astype(np.float64)
        for rows in recordings
        for start in range(0, len(rows) - n_windows + 1, n_windows)
    ]


def learn(clips: Sequence[Float64Array]) -> NormalSound:
    """Return what *clips* of one section say of normal sound."""
    return learn_mahalanobis([{"source": clips}], RECIPE)


def stream_scores(rows: Float32Array, scoring: Scoring, n_windows: int) -> Float64Array:
    """Return the score of each window of a recording but the first, as the daemon makes them.

    Args:
        rows: Embeddings of the windows, shape ``(n_windows, n_dims)``.
        scoring: The method.
        n_windows: Windows that a score rests on.
    """
    scorer = ClipScorer(scoring, n_windows)
    scores = (
        scorer.process(Window(row[None], index, 1), NetworkOutput(row, None))
        for index, row in enumerate(rows)
    )
    return np.array([score.value for score in scores if score is not None], np.float64)


def cross_scores(recordings: Sequence[Float32Array]) -> NormalScores:
    """Return scores of *recordings*, each stretch of them by what the rest teaches.

    Stretches are tenths of all sound, or more where that is too little, in order: neighbouring
    clips are alike, and to leave out every tenth clip would leave its like in.
    """
    whole = [rows[: len(rows) // CLIP_WINDOWS * CLIP_WINDOWS] for rows in recordings]
    clips = cut_clips(whole, CLIP_WINDOWS)
    n_folds = min(_N_FOLDS, max(2, len(clips) // _LEAST_FOLD))
    folds = np.arange(len(clips)) * n_folds // len(clips)
    of_recording = np.repeat(np.arange(len(whole)), [len(rows) // CLIP_WINDOWS for rows in whole])
    runs = []
    for fold in np.unique(folds):
        rest = [clip for clip, number in zip(clips, folds, strict=True) if number != fold]
        normal = learn(rest)
        scoring = make_scoring(SCORING, 0, normal.references[0], normal.distances)
        for recording in np.unique(of_recording[folds == fold]):
            chosen = np.flatnonzero((folds == fold) & (of_recording == recording))
            rows = np.concatenate([clips[index] for index in chosen]).astype(np.float32)
            runs.append(stream_scores(rows, scoring, CLIP_WINDOWS))
    return normal_scores(runs)


def normal_scores(runs: Sequence[Float64Array]) -> NormalScores:
    """Return *runs* with the times that the geometry of what is learned gives its scores."""
    hop = WINDOW.hop_frames * FEATURES.hop_length
    span = FEATURES.n_samples(WINDOW.n_frames) + (CLIP_WINDOWS - 1) * hop
    return NormalScores(runs, hop, span, FEATURES.sample_rate)
