"""The check that a model in int8 is nearly as good as in float32, and faster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from edgeasd.common.errors import EdgeasdError
from edgeasd.common.types import Float32Array
from edgeasd.detect.model.network import Model
from train.data.clips import Clip
from train.scoring.metrics import measure, official_score

MOST_SCORE_LOST = 0.01
"""Most that the official score may be lower in int8."""
LEAST_CORRELATION = 0.98
"""Least rank correlation of the scores of clips in int8 and in float32."""
LEAST_SPEEDUP = 1.4
"""Least ratio of the time of a window in float32 to that in int8."""

_N_TIMED = 400
"""Windows that are timed in each form."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a model in int8 compares with the same in float32.

    Attributes:
        correlation: Spearman's rank correlation of the scores of clips, the least of all sections.
        speedup: Median time of a window in float32 over that in int8.
        score_lost: Official score in float32 less that in int8; `None` without labelled clips.
        n_clips: Number of clips that were compared.
    """

    correlation: float
    speedup: float
    score_lost: float | None
    n_clips: int

    def check(self) -> None:
        """Check that int8 is nearly as good, and faster.

        Raises:
            EdgeasdError: If it is not; the message has the figures.
        """
        bad = not self.correlation >= LEAST_CORRELATION or not self.speedup >= LEAST_SPEEDUP
        if bad or (self.score_lost is not None and not self.score_lost <= MOST_SCORE_LOST):
            raise EdgeasdError(
                f"int8 is refused: {self}; needed are a rank correlation of at least "
                f"{LEAST_CORRELATION}, {LEAST_SPEEDUP} times the speed and an official score at "
                f"most {MOST_SCORE_LOST} lower; export it without --int8"
            )

    def __str__(self) -> str:
        lost = "not known" if self.score_lost is None else f"{0.0 - self.score_lost:+.4f}"
        return (
            f"rank correlation {self.correlation:.4f} over {self.n_clips} clips, "
            f"{self.speedup:.2f} times the speed, official score {lost}"
        )


def compare(
    clips: Sequence[Clip],
    exact_scores: Sequence[float],
    small_scores: Sequence[float],
    speedup: float,
) -> Comparison:
    """Return how the scores of the same *clips* in float32 and int8 agree.

    Args:
        clips: Labelled clips if there are any, else normal ones.
        exact_scores: Score of each clip in float32.
        small_scores: Score of each clip in int8.
        speedup: Median time of a window in float32 over that in int8.
    """
    correlations = []
    for section in sorted({clip.section for clip in clips}):
        rows = [row for row, clip in enumerate(clips) if clip.section == section]
        pair = (np.asarray(scores)[rows] for scores in (exact_scores, small_scores))
        correlations.append(float(spearmanr(*pair).statistic))
    try:
        exact, small = (
            official_score(measure(clips, scores, [False] * len(clips)))
            for scores in (exact_scores, small_scores)
        )
        lost = exact - small
    except EdgeasdError:  # a section without normal or anomalous clips has no official score
        lost = None
    # Not min(), which may pass over a NaN: the correlation of a section whose scores are all equal.
    return Comparison(float(np.min(correlations)), speedup, lost, len(clips))


def time_windows(models: Mapping[str, Model], windows: Float32Array) -> dict[str, float]:
    """Return the median seconds that each of *models* takes for a window; they run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(_N_TIMED):
        for name, model in models.items():
            started = time.perf_counter()
            model.run(windows[number % len(windows)])
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}
