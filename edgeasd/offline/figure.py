"""Figures in one style for all pictures, and their PNG files; needs the extra ``plot``."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeasd.common.files.whole_file import replace_file


@contextmanager
def _in_the_root_folder() -> Iterator[None]:
    here = os.open(".", os.O_PATH)
    os.chdir("/")
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


# On import, matplotlib reads a file "matplotlibrc" in the current folder, whoever put it there.
with _in_the_root_folder():
    import matplotlib as mpl
    from matplotlib.figure import Figure

# Distinguishable with any colour vision: Okabe and Ito (2008), Color universal design.
NORMAL, ANOMALY, GREY = "#0072B2", "#D55E00", "#999999"

WIDTH = 12.0
"""Width of a figure in inches; 1080 pixels."""

in_style = mpl.rc_context(
    {
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": "medium",
        "figure.dpi": 90,
        "font.size": 9,
        "legend.fontsize": "small",
        # The name of a file or section may hold dollar signs.
        "text.parse_math": False,
    }
)
"""Decorator that gives a function's figures the common style."""


def new_figure(height: float) -> Figure:
    """Return a figure of the common width that is *height* inches high."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def mark_thresholds(
    draw_line: Callable[..., object], threshold: float, clear_threshold: float
) -> None:
    """Draw both thresholds of an alarm.

    Args:
        draw_line: ``axhline`` or ``axvline`` of the axes.
        threshold: Score that raises the alarm.
        clear_threshold: Score below which the alarm may end.
    """
    draw_line(threshold, color="black", linewidth=1, label="threshold")
    if clear_threshold < threshold:
        draw_line(
            clear_threshold, color="black", linewidth=1, linestyle=":", label="clear threshold"
        )


def save(figure: Figure, path: Path) -> None:
    """Write *figure* to a PNG file.

    Raises:
        StorageError: If the file cannot be written.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    replace_file(path, drawn.getvalue())
