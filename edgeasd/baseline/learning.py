"""What ``edgeasd learn`` learns: one section, from minutes of normal sound, in closed form.

The embedding is the mean log-mel of a window; the score is the distance of ten seconds of them to
the mean of normal sound, measured as by the trainer's recipe ``edge``.  On the fan benchmark, with
ten minutes of one section, it ranks clips like the plain Mahalanobis distance (AUC 0.999 and
1.000), leaves faults further above normal sound, and adapts far better to new sound; see
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
"""Windows that a score rests on, 10 s; the sound that is learned from is cut into such clips."""
SCORING = ScoringDocument("mahalanobis", clip_windows=CLIP_WINDOWS)
RECIPE = MahalanobisRecipe(anomaly_prior=True)
"""The trainer's recipe ``edge``, without what needs several sections or domains."""

_N_FOLDS = 10
"""Most folds in which normal sound is scored by what the rest of it teaches."""
_LEAST_FOLD = 5
"""Least clips in a fold, as the scores of a fold begin only with its second clip."""


def cut_clips(recordings: Sequence[Float32Array], n_windows: int) -> list[Float64Array]:
    """Return clips of *n_windows* windows; what does not fill a clip is left out.

    Args:
        recordings: Embeddings of the windows of each recording, shape ``(n_windows, n_dims)``.
        n_windows: Windows in a clip.
    """
    return [
        rows[start : start + n_windows].astype(np.float64)
        for rows in recordings
        for start in range(0, len(rows) - n_windows + 1, n_windows)
    ]


def learn(clips: Sequence[Float64Array]) -> NormalSound:
    """Return what *clips* of one section teach of normal sound."""
    return learn_mahalanobis([{"source": clips}], RECIPE)


def stream_scores(rows: Float32Array, scoring: Scoring, n_windows: int) -> Float64Array:
    """Return the scores of a recording as the daemon makes them, none for the first windows.

    Args:
        rows: Embeddings of the windows, shape ``(n_windows, n_dims)``.
        scoring: Scoring method.
        n_windows: Windows that a score rests on.
    """
    scorer = ClipScorer(scoring, n_windows)
    scores = (
        scorer.process(Window(row[None], index, 1), NetworkOutput(row, None))
        for index, row in enumerate(rows)
    )
    return np.array([score.value for score in scores if score is not None], np.float64)


def cross_scores(recordings: Sequence[Float32Array]) -> NormalScores:
    """Return the scores of *recordings*, each stretch of them by what the rest teaches.

    A stretch is a tenth of all sound, or more if there is little.  It is left out as a whole:
    neighbouring clips are alike, so that without every tenth clip its neighbours would still be
    learned from.
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
    """Return the scores in *runs* with the times that they have by the geometry of the model."""
    hop = WINDOW.hop_frames * FEATURES.hop_length
    span = FEATURES.n_samples(WINDOW.n_frames) + (CLIP_WINDOWS - 1) * hop
    return NormalScores(runs, hop, span, FEATURES.sample_rate)
