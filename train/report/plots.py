"""Draws losses, scores and ROC curves for the report of a run."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import roc_curve

from edgeasd.common.types import Float32Array, Float64Array
from edgeasd.offline.figure import ANOMALY, GREY, NORMAL, WIDTH, in_style
from train.data.clips import Clip
from train.scoring.metrics import MAX_FALSE_POSITIVE_RATE, Measures

_DOMAIN_LINES = {"source": ("#009E73", "-"), "target": ("#CC79A7", "--")}

_N_BINS = 30
_NOT_TERMS = ("epoch", "learning_rate", "seconds", "windows_per_s")


@dataclass(frozen=True, slots=True, eq=False)
class ScoredClip:
    """A clip with its score and embedding.

    Attributes:
        clip: The clip.
        score: Score, higher is more anomalous; may be nan.
        embedding: Mean embedding of its windows, shape ``(n_dims,)``.
    """

    clip: Clip
    score: float
    embedding: Float32Array


@in_style
def draw_losses(history: Sequence[Mapping[str, float]]) -> bytes | None:
    """Return a picture of each term of the loss by epoch; `None` if nothing was trained.

    Each term has its own panel, because one may fall from 3 to -6 while another falls by a tenth.

    Args:
        history: Entries of log.jsonl.
    """
    terms = [name for line in history[:1] for name in line if name not in _NOT_TERMS]
    if not terms:
        return None
    figure, panels = panel_grid(len(terms), n_columns=4, height=2.6)
    rates = [_draw_term(axes, history, term) for axes, term in zip(panels, terms, strict=True)]
    panels[0].set_ylabel("mean over windows")
    for axes in rates[:-1]:
        axes.yaxis.set_visible(False)
    rates[-1].set_ylabel("learning rate")
    return to_png(figure)


@in_style
def draw_histograms(
    tests: Sequence[ScoredClip], thresholds: Mapping[str, float], sections: Sequence[str]
) -> bytes | None:
    """Return histograms of the scores, a row for each of *sections*; `None` without any.

    The panels of a section share their bins, which reach beyond its normal scores and threshold by
    the range of these.  Scores further out are counted in the outermost bins.
    """
    if not sections:
        return None
    domains = sorted({one.clip.domain for one in tests})
    figure = Figure(figsize=(WIDTH, 0.6 + 1.9 * len(sections)), layout="constrained")
    rows = figure.subplots(len(sections), len(domains), sharex="row", sharey="row", squeeze=False)
    for section, row in zip(sections, rows, strict=True):
        threshold = thresholds.get(section, math.nan)
        edges = _bin_edges([one for one in tests if one.clip.section == section], threshold)
        for domain, axes in zip(domains, row, strict=True):
            _draw_histogram(axes, of_group(tests, section, domain), edges, threshold)
            axes.set_title(f"section {printable(section)}, {domain}: {axes.get_title()}")
        row[0].set_ylabel("test clips")
    for axes in rows[-1]:
        axes.set_xlabel("score (higher is more anomalous)")
    figure.legend(
        handles=[
            Patch(facecolor=NORMAL, alpha=0.5, label="normal"),
            Patch(facecolor="none", edgecolor=ANOMALY, hatch="////", label="anomalous"),
            Line2D([], [], color="black", label="threshold"),
        ],
        loc="outside upper right",
        ncols=3,
    )
    return to_png(figure)


@in_style
def draw_roc(
    tests: Sequence[ScoredClip],
    measures: Sequence[Measures],
    thresholds: Mapping[str, float],
    sections: Sequence[str],
) -> bytes | None:
    """Return ROC curves, a panel for each of *sections*; `None` without any.

    Clips whose score is not finite are left out.
    """
    if not sections:
        return None
    measured = {(one.section, one.domain): one for one in measures}
    figure, panels = panel_grid(len(sections), n_columns=4, height=3.5)
    for axes, section in zip(panels, sections, strict=True):
        axes.axvspan(0.0, MAX_FALSE_POSITIVE_RATE, color="#DDDDDD", linewidth=0)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for domain in _DOMAIN_LINES:
            _draw_curve(
                axes,
                of_group(tests, section, domain),
                measured.get((section, domain)),
                thresholds.get(section, math.nan),
            )
        axes.set(
            title=f"section {printable(section)}",
            aspect="equal",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            xlabel="false positive rate",
            ylabel="true positive rate",
        )
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        else:
            axes.text(0.5, 0.2, "needs normal and\nanomalous test clips", ha="center")
    return to_png(figure)


def panel_grid(n_panels: int, n_columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of *n_panels* in rows of *n_columns*, each *height* inches high."""
    used = min(n_panels, n_columns)
    n_rows = -(-n_panels // n_columns)
    # A lone panel would be too narrow for its title.
    width = max(WIDTH * used / n_columns, WIDTH / 3)
    figure = Figure(figsize=(width, height * n_rows), layout="constrained")
    panels = list(figure.subplots(n_rows, used, squeeze=False).flat)
    for unused in panels[n_panels:]:
        unused.remove()
    return figure, panels[:n_panels]


def to_png(figure: Figure) -> bytes:
    """Return *figure* as a PNG file of 256 colours; the same figure gives the same bytes.

    This makes a spectrogram a quarter of its size, without a visible difference.
    """
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as image:
        palette = image.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    palette.save(file, format="png", optimize=True)
    return file.getvalue()


def of_group(clips: Iterable[ScoredClip], section: str, domain: str) -> list[ScoredClip]:
    """Return the *clips* of *section* and *domain*."""
    return [one for one in clips if (one.clip.section, one.clip.domain) == (section, domain)]


def thinned(clips: Sequence[ScoredClip], most: int) -> list[ScoredClip]:
    """Return at most *most* of *clips*, evenly spaced."""
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), most)).round().astype(int)
    return [clips[i] for i in chosen]


def printable(name: str, most: int = 70) -> str:
    """Return *name* with ``?`` for what matplotlib's font cannot draw, shortened in the middle."""
    shown = "".join(one if one.isprintable() and one < "\u0250" else "?" for one in name)
    half = (most - 3) // 2
    return shown if len(shown) <= most else f"{shown[:half]}...{shown[-half:]}"


def _draw_term(axes: Axes, history: Sequence[Mapping[str, float]], term: str) -> Axes:
    """Draw one term over the learning rate, and return the axes of the learning rate."""
    epochs = [line["epoch"] for line in history]
    axes.plot(epochs, [line.get(term, math.nan) for line in history], marker=".", color=NORMAL)
    axes.set(title=printable(term), xlabel="epoch", xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    rates = axes.twinx()
    # A single epoch shows only the marker.
    rates.step(
        epochs,
        [line["learning_rate"] for line in history],
        where="mid",
        marker="_",
        color=GREY,
        linewidth=1,
    )
    rates.set_ylim(0.0, 1.1 * max(line["learning_rate"] for line in history))
    rates.ticklabel_format(axis="y", scilimits=(0, 0))
    rates.yaxis.get_offset_text().set_color(GREY)
    rates.yaxis.label.set_color(GREY)
    rates.tick_params(axis="y", colors=GREY)
    return rates


def _bin_edges(clips: Sequence[ScoredClip], threshold: float) -> Float64Array:
    """Return the edges of the bins, shape ``(n_bins + 1,)``."""
    scores = _finite([one.score for one in clips])
    normal = [one.score for one in clips if one.clip.label == "normal"]
    core = _finite([*normal, threshold])
    if len(np.unique(core)) < 2:
        core = np.concatenate((core, scores))
    if not core.size:
        return np.linspace(0.0, 1.0, _N_BINS + 1)
    everything = np.concatenate((core, scores))
    low = max(everything.min(), core.min() - np.ptp(core))
    high = min(everything.max(), core.max() + np.ptp(core))
    return np.linspace(low, high, _N_BINS + 1) if low < high else np.array([low - 0.5, low + 0.5])


def _draw_histogram(
    axes: Axes, clips: Sequence[ScoredClip], edges: Float64Array, threshold: float
) -> None:
    scores = np.array([one.score for one in clips])
    anomalous = np.array([one.clip.label == "anomaly" for one in clips], bool)
    if not clips:
        axes.set_title("no test clips")
        axes.set_axis_off()
        return
    axes.axvline(threshold, color="black", linewidth=1.5)
    normal = np.clip(_finite(scores[~anomalous]), edges[0], edges[-1])
    faulty = np.clip(_finite(scores[anomalous]), edges[0], edges[-1])
    axes.hist(normal, edges.tolist(), color=NORMAL, alpha=0.5)
    axes.hist(faulty, edges.tolist(), histtype="step", color=ANOMALY, hatch="////", linewidth=1.2)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    alarms = scores >= threshold
    title = (
        f"{np.sum(~alarms & anomalous)} of {anomalous.sum()} anomalies missed, "
        f"{np.sum(alarms & ~anomalous)} of {np.sum(~anomalous)} false alarms"
    )
    if n_others := len(scores) - len(normal) - len(faulty):
        title += f"; {n_others} not finite"
    axes.set_title(title)


def _draw_curve(
    axes: Axes, clips: Sequence[ScoredClip], measures: Measures | None, threshold: float
) -> None:
    clips = [one for one in clips if math.isfinite(one.score)]
    anomalous = np.array([one.clip.label == "anomaly" for one in clips], bool)
    if anomalous.all() or not anomalous.any():
        return
    scores = np.array([one.score for one in clips])
    domain = clips[0].clip.domain
    colour, line = _DOMAIN_LINES[domain]
    label = f"{domain}, AUC {measures.auc:.3f}, pAUC {measures.pauc:.3f}" if measures else domain
    false_positive, true_positive, _ = roc_curve(anomalous, scores, drop_intermediate=False)
    axes.plot(false_positive, true_positive, line, color=colour, label=label)
    alarms = scores >= threshold
    axes.plot(
        alarms[~anomalous].mean(),
        alarms[anomalous].mean(),
        "o",
        color=colour,
        markeredgecolor="black",
        clip_on=False,
        zorder=3,
    )


def _finite(values: Sequence[float] | Float64Array) -> Float64Array:
    array = np.asarray(values, np.float64)
    return array[np.isfinite(array)]
