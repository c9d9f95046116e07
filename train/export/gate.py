"""Whether a model in int8 is as good as that in float32, and worth it."""

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
LEAST_CORRELATION = 0.98
LEAST_SPEEDUP = 1.4

_N_TIMED = 400


@dataclass(frozen=True, slots=True)
class Comparison:
    """Int8 against float32.

    Attributes:
        correlation: The least of the sections: Spearman's, of the scores of clips.
        speedup: Time of a window in float32 over that in int8, of medians.
        score_lost: Official score in float32 less that in int8; `None` without labelled clips.
        n_clips: Clips compared.
    """

    correlation: float
    speedup: float
    score_lost: float | None
    n_clips: int

    def check(self) -> None:
        """Check that int8 loses little and gains much.

        Raises:
            EdgeasdError: If not, with the figures.
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
        clips: Labelled ones if there are, else normal ones.
        exact_scores: In float32.
        small_scores: In int8.
        speedup: See `Comparison`.
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
    except EdgeasdError:  # a section without normal or without anomalous clips: no such score
        lost = None
    # Not min(): it may pass over a section that has none, as its scores do not differ.
    return Comparison(float(np.min(correlations)), speedup, lost, len(clips))


def time_windows(models: Mapping[str, Model], windows: Float32Array) -> dict[str, float]:
    """Return the median seconds that each of *models* takes for a window, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(_N_TIMED):
        for name, model in models.items():
            started = time.perf_counter()
            model.run(windows[number % len(windows)])
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}
