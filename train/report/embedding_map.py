"""Draws a map of the embeddings of normal and anomalous clips."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

# Comes with scikit-learn.  With several threads the order of the sums in t-SNE varies, and the same
# embeddings would give another map each time.
from threadpoolctl import threadpool_limits

from edgeasd.common.types import Float64Array
from edgeasd.offline.figure import ANOMALY, GREY, NORMAL, in_style
from train.report.plots import ScoredClip, panel_grid, printable, thinned, to_png

MOST_CLIPS = 1_000
"""Largest number of clips on a panel; t-SNE of more would be slow, and their dots would overlap."""
LEAST_FOR_TSNE = 30
"""Least number of different embeddings for t-SNE; fewer have no neighbourhoods to keep."""

# Marker and relative area; the few clips of the target domain are drawn larger.
_MARKERS = {"source": ("o", 1.0), "target": ("^", 1.8)}
# Okabe and Ito (2008), without black and yellow.
_SECTION_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

_KINDS = {
    ("test", "normal"): ("normal, test", NORMAL, 32.0, False),
    ("test", "anomaly"): ("anomalous, test", ANOMALY, 26.0, True),
    ("train", "normal"): ("normal, training", "black", 12.0, False),
}


@in_style
def draw_embeddings(train: Sequence[ScoredClip], tests: Sequence[ScoredClip]) -> bytes | None:
    """Return a map of all sections and one of each section; `None` if there is nothing to show.

    Each panel is a separate projection of at most `MOST_CLIPS` evenly spaced clips.  Clips whose
    embedding is not finite are left out.
    """
    clips = [one for one in (*train, *tests) if np.all(np.isfinite(one.embedding))]
    if not clips:
        return None
    by_section = {
        name: [one for one in clips if one.clip.section == name]
        for name in sorted({one.clip.section for one in clips})
    }
    overview = len(by_section) > 1
    figure, panels = panel_grid(len(by_section) + overview, n_columns=3, height=3.8)
    if overview:
        _draw_overview(panels[0], thinned(clips, MOST_CLIPS), list(by_section))
    for axes, (section, chosen) in zip(panels[overview:], by_section.items(), strict=True):
        _draw_section(axes, thinned(chosen, MOST_CLIPS))
        axes.set_title(f"section {printable(section)}")
    _add_legend(figure, {one.clip.domain for one in clips}, 5 if overview else 2)
    return to_png(figure)


def project(embeddings: Float64Array) -> tuple[Float64Array, str]:
    """Return *embeddings* in two dimensions, and the name of the projection.

    The projection is t-SNE, or PCA for fewer than `LEAST_FOR_TSNE` different embeddings and for
    two dimensions.

    Args:
        embeddings: Shape ``(n_clips, n_dims)``, finite, at least one.

    Returns:
        Shape ``(n_clips, 2)``, and the name.

    References:
        van der Maaten and Hinton (2008), Visualizing data using t-SNE.
    """
    n_different = len(np.unique(embeddings, axis=0))
    if n_different < LEAST_FOR_TSNE or embeddings.shape[1] <= 2:
        return _principal_components(embeddings)
    tsne = TSNE(perplexity=min(30.0, n_different / 4), init="pca", random_state=0)
    with threadpool_limits(limits=1):
        return tsne.fit_transform(embeddings), "t-SNE"


def _principal_components(embeddings: Float64Array) -> tuple[Float64Array, str]:
    centred = embeddings - embeddings.mean(axis=0)
    _, strengths, directions = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(embeddings), 2))
    found = centred @ directions[:2].T
    places[:, : found.shape[1]] = found
    part = np.sum(strengths[:2] ** 2) / max(np.sum(strengths**2), np.finfo(float).tiny)
    return places, f"PCA, {part:.0%} of the variance"


def _draw_overview(axes: Axes, clips: Sequence[ScoredClip], sections: Sequence[str]) -> None:
    places, name = project(_stacked(clips))
    colours = dict(zip(sections, itertools.cycle(_SECTION_COLOURS), strict=False))
    for section, domain, anomalous in itertools.product(sections, _MARKERS, (False, True)):
        chosen = [
            (one.clip.section, one.clip.domain, one.clip.label == "anomaly")
            == (section, domain, anomalous)
            for one in clips
        ]
        _scatter(axes, places[chosen], domain, colours[section], hollow=anomalous)
    handles = [
        Line2D([], [], color=colour, marker="s", linestyle="", label=printable(section, 20))
        for section, colour in colours.items()
    ]
    axes.legend(handles=handles, title="section", loc="best")
    _finish(axes, name)
    axes.set_title("all sections")


def _draw_section(axes: Axes, clips: Sequence[ScoredClip]) -> None:
    places, name = project(_stacked(clips))
    kinds = [(one.clip.split, one.clip.label) for one in clips]
    for kind, (_, colour, size, hollow) in _KINDS.items():
        for domain in _MARKERS:
            chosen = [
                each == kind and one.clip.domain == domain
                for each, one in zip(kinds, clips, strict=True)
            ]
            _scatter(axes, places[chosen], domain, colour, size, hollow=hollow)
    _finish(axes, name)


def _scatter(
    axes: Axes, places: Float64Array, domain: str, colour: str, size: float = 26.0, *, hollow: bool
) -> None:
    marker, part = _MARKERS[domain]
    axes.scatter(
        places[:, 0],
        places[:, 1],
        s=size * part,
        marker=marker,
        facecolors="none" if hollow else colour,
        edgecolors=colour if hollow else "white",
        linewidths=1.1 if hollow else 0.4,
    )


def _finish(axes: Axes, projection: str) -> None:
    axes.set(xticks=[], yticks=[], xlabel=projection)
    axes.margins(0.08)
    axes.spines[:].set(visible=True, color="#CCCCCC")


def _add_legend(figure: Figure, domains: set[str], n_columns: int) -> None:
    kinds = [
        Line2D(
            [],
            [],
            color=colour,
            marker="o",
            markersize=size**0.5,
            linestyle="",
            label=label,
            markerfacecolor="none" if hollow else colour,
        )
        for label, colour, size, hollow in _KINDS.values()
    ]
    shapes = [
        Line2D([], [], color=GREY, marker=marker, linestyle="", label=domain)
        for domain, (marker, _) in _MARKERS.items()
        if domain in domains
    ]
    figure.legend(handles=[*kinds, *shapes], loc="outside upper center", ncols=n_columns)


def _stacked(clips: Sequence[ScoredClip]) -> Float64Array:
    return np.stack([one.embedding for one in clips]).astype(np.float64)
