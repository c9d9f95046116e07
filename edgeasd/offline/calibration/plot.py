"""``edgeasd calibrate --plot``: the picture of a calibration; needs the extra ``plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeasd.baseline.alarm_rate import WEEK_S
from edgeasd.common.text import rounded
from edgeasd.offline.calibration.outcome import Outcome
from edgeasd.offline.figure import (
    ANOMALY,
    GREY,
    NORMAL,
    in_style,
    mark_thresholds,
    new_figure,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_N_LEVELS = 60
_BEYOND = 0.25
"""Share of the shown range that lies above the threshold and above the highest score."""


@in_style
def draw_calibration(path: Path, machine: str, outcome: Outcome) -> None:
    """Draw the scores of normal sound, and the false alarms that each threshold would give.

    Args:
        path: Path of the picture, a PNG file.
        machine: Name of the machine.
        outcome: The calibration to draw.

    Raises:
        StorageError: If the picture cannot be written.
    """
    made = outcome.calibration
    figure = new_figure(7.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    above.set_title(
        f"{machine}: {made.sound_s / 3600.0:.1f} h of normal sound, threshold "
        f"{rounded(made.threshold, 4)}"
    )
    above.hist(outcome.scores.values, bins=120, color=NORMAL, label="scores of normal sound")
    above.set_ylabel("scores")
    _draw_rates(below, outcome)
    for axes in (above, below):
        mark_thresholds(axes.axvline, made.threshold, made.clear_threshold)
        axes.legend(loc="upper right")
    save(figure, path)


def _draw_rates(axes: Axes, outcome: Outcome) -> None:
    made, rates = outcome.calibration, outcome.rates
    low = made.score_quantiles[1]
    high = max(made.threshold, rates.tail.top)
    levels = np.linspace(low, high + _BEYOND * (high - low), _N_LEVELS)
    counts = np.array([rates.count(level) for level in levels], float)
    week = WEEK_S / rates.duration_s
    seen = counts > 0
    axes.plot(levels[seen], counts[seen] * week, ".", color=NORMAL, label="counted in this sound")
    fitted = levels[levels >= rates.tail.level]
    lines = [rates.tail.rate(level) for level in fitted]
    ends = np.array([(one.low, one.expected, one.high) for one in lines]) * WEEK_S
    axes.plot(fitted, ends[:, 1], color=ANOMALY, label="expected by the fitted tail")
    axes.fill_between(
        fitted, ends[:, 0], ends[:, 2], color=GREY, alpha=0.4, linewidth=0, label="95 % interval"
    )
    axes.axhline(made.budget_per_week, color="black", linewidth=1, linestyle="--", label="budget")
    axes.set(
        xlabel="threshold (score of the last 10 s)",
        ylabel="false alarms a week",
        yscale="log",
        ylim=(made.budget_per_week / 100.0, 3.0 * max(1.0, counts.max()) * week),
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
