"""Pictures of sound, scores and explanations; needs the extra ``plot``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from edgeasd.common.text import printable
from edgeasd.common.types import Float32Array
from edgeasd.detect.features import FeatureSpec, hz_to_mel
from edgeasd.detect.model.spectrum import NormalSpectrum
from edgeasd.detect.pipeline import Detection
from edgeasd.offline.explain.explain import Explanation, band_edges, moment_frames
from edgeasd.offline.explain.findings import bin_edges_hz
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
    from matplotlib.image import AxesImage


_SMOOTHED_S = 0.25
"""Length of the average along time; single frames of noise vary by 5 dB and hide what lasts."""
_LONGEST_TITLE = 120
"""Characters that fit into the width of a picture."""
_TICKS_HZ = (500, 1000, 2000, 4000, 8000, 16000)


@in_style
def draw_scores(
    path: Path,
    title: str,
    frames: Float32Array,
    spec: FeatureSpec,
    *,
    detections: Sequence[Detection],
    thresholds: tuple[float, float],
) -> None:
    """Draw a recording's log-mel, and below it the scores, thresholds and alarms by time.

    Args:
        path: Path of the picture, a PNG file.
        title: Title of the picture.
        frames: Log-mel of the whole recording, shape ``(n_frames, n_mels)``, dB.
        spec: Frame geometry.
        detections: Scores and events of the recording as the daemon would find them, in order.
        thresholds: Score that raises the alarm, and score below which it may end.

    Raises:
        StorageError: If the picture cannot be written.
    """
    figure = new_figure(6.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    image = draw_frames(above, frames, spec, "magma", limits([frames]))
    figure.colorbar(image, ax=above, label="log-mel (dB)", aspect=30)
    above.set_title(printable(title, _LONGEST_TITLE))
    times = [one.score.end_sample / spec.sample_rate for one in detections]
    below.plot(times, [one.score.value for one in detections], color=NORMAL, label="score")
    mark_thresholds(below.axhline, *thresholds)
    for number, (start_s, end_s) in enumerate(_alarms(detections, times)):
        label = "alarm" if number == 0 else None
        below.axvspan(start_s, end_s, color=ANOMALY, alpha=0.25, linewidth=0, label=label)
    below.set(xlabel="time (s)", ylabel="score (last 10 s)")
    below.legend(loc="upper left", ncols=4)
    save(figure, path)


@in_style
def draw_explanation(
    path: Path, title: str, spec: FeatureSpec, explanation: Explanation, normal: NormalSpectrum
) -> None:
    """Draw how a sound differs from normal, and which moments and bands made its score.

    Args:
        path: Path of the picture, a PNG file.
        title: Title of the picture.
        spec: Frame geometry.
        explanation: Explanation of the score.
        normal: Spectrum of normal sound.

    Raises:
        StorageError: If the picture cannot be written.
    """
    figure = new_figure(7.0)
    figure.suptitle(
        "\n".join((printable(title, _LONGEST_TITLE), *explanation.words)), x=0.01, ha="left"
    )
    ((main, spectrum, by_band), (by_moment, *unused)) = figure.subplots(
        2, 3, width_ratios=(6, 2, 1), height_ratios=(4, 1)
    )
    for axes in unused:
        axes.remove()
    _draw_difference(main, explanation.frames - normal.level_db, spec)
    _draw_spectrum(spectrum, explanation.frames.mean(axis=0), normal, spec)
    edges = hz_to_mel(bin_edges_hz(spec)[band_edges(spec.n_mels)])
    by_band.barh(
        edges[:-1], explanation.bands, np.diff(edges), align="edge", color=_signs(explanation.bands)
    )
    by_band.set(xlabel="share of the score", ylim=main.get_ylim(), yticks=[])
    length_s = moment_frames(spec) / spec.frames_per_s
    by_moment.bar(
        np.arange(len(explanation.moments)) * length_s,
        explanation.moments,
        length_s,
        align="edge",
        color=_signs(explanation.moments),
    )
    by_moment.set(xlabel="time (s)", ylabel="share of the score", xlim=main.get_xlim())
    save(figure, path)


def draw_frames(
    axes: Axes, frames: Float32Array, spec: FeatureSpec, colours: str, limits: tuple[float, float]
) -> AxesImage:
    """Draw log-mel *frames*, shape ``(n_frames, n_mels)``, over time and frequency."""
    lowest, highest = hz_to_mel(np.array([spec.fmin, spec.fmax]))
    image = axes.imshow(
        frames.T,
        origin="lower",
        aspect="auto",
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        extent=(0.0, len(frames) / spec.frames_per_s, lowest, highest),
    )
    _label_hertz(axes, spec)
    return image


def _draw_difference(axes: Axes, difference: Float32Array, spec: FeatureSpec) -> None:
    n_smoothed = max(1, round(_SMOOTHED_S * spec.frames_per_s))
    smooth = uniform_filter1d(difference, n_smoothed, axis=0, mode="nearest")
    furthest = max(map(abs, limits([smooth])))
    image = draw_frames(axes, smooth, spec, "RdBu_r", (-furthest, furthest))
    axes.figure.colorbar(image, ax=axes, label="above normal (dB)", location="left", aspect=30)


def _draw_spectrum(
    axes: Axes, level_db: Float32Array, normal: NormalSpectrum, spec: FeatureSpec
) -> None:
    lowest, highest = hz_to_mel(np.array([spec.fmin, spec.fmax]))
    mels = np.linspace(lowest, highest, spec.n_mels + 2)[1:-1]
    margin = 2.0 * normal.spread_db
    axes.fill_betweenx(
        mels,
        normal.level_db - margin,
        normal.level_db + margin,
        color=GREY,
        alpha=0.5,
        label="normal",
    )
    axes.plot(level_db, mels, color=ANOMALY, label="this sound")
    axes.set(xlabel="mean log-mel (dB)", ylim=(lowest, highest))
    _label_hertz(axes, spec)
    axes.set_ylabel("")
    axes.legend(loc="best")


def _label_hertz(axes: Axes, spec: FeatureSpec) -> None:
    shown = [one for one in _TICKS_HZ if spec.fmin <= one <= spec.fmax]
    axes.set_yticks(hz_to_mel(np.array(shown, float)).tolist(), [f"{one:g}" for one in shown])
    axes.set_ylabel("frequency (Hz)")


def _alarms(detections: Sequence[Detection], times: Sequence[float]) -> list[tuple[float, float]]:
    """Return start and end of each alarm in seconds; one still raised ends with the recording."""
    alarms: list[tuple[float, float]] = []
    start_s = math.nan
    for one, time_s in zip(detections, times, strict=True):
        if one.event is not None and one.event.type == "start":
            start_s = time_s
        elif one.event is not None and one.event.type == "end":
            alarms.append((start_s, time_s))
            start_s = math.nan
    return alarms if math.isnan(start_s) else [*alarms, (start_s, times[-1])]


def limits(arrays: Sequence[Float32Array]) -> tuple[float, float]:
    """Return the range that holds 99 % of the values of *arrays*."""
    values = np.concatenate([one.ravel() for one in arrays])
    values = values[np.isfinite(values)]
    if not values.size:
        return -1.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    return float(low), float(max(high, low + 1.0))


def _signs(values: npt.NDArray[np.float64]) -> list[str]:
    return [ANOMALY if value > 0 else NORMAL for value in values]
