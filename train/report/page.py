"""Writes the report of a training run: one page with its pictures, and the pictures as files."""

from __future__ import annotations

import base64
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from edgeasd.common.errors import StorageError
from edgeasd.detect.features import FeatureSpec
from train.report.embedding_map import draw_embeddings
from train.report.misses import draw_misses, find_misses
from train.report.plots import ScoredClip, draw_histograms, draw_losses, draw_roc
from train.runs.run import write_atomically
from train.scoring.metrics import MEASURES, Measures, mean_of, official_score

_MEASURE_HEADS = ("AUC", "pAUC", "precision", "recall", "F1")

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h2 { margin-top: 2em; }
table { border-collapse: collapse; }
th, td { padding: 0.15em 0.8em; border-bottom: 1px solid #ddd; text-align: left; }
td { overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
pre { overflow-x: auto; background: #f4f4f4; padding: 1em; }
</style>
</head>
<body>
<h1>$title</h1>
$body
<details>
<summary>Recipe</summary>
<pre>$recipe</pre>
</details>
</body>
</html>
""")


@dataclass(frozen=True, slots=True, eq=False)
class ReportInput:
    """Content of a report.

    Attributes:
        title: Title, for example recipe, machine type and seed.
        facts: Further facts about the run, values by name.
        recipe: Recipe as a TOML document.
        history: Entries of log.jsonl; empty for a system without training.
        measures: Measures of each section and domain.
        thresholds: Threshold of each section.
        train: Training clips; their scores may be nan.
        tests: Test clips.
        features: Geometry of the log-mel frames.
    """

    title: str
    facts: Mapping[str, str]
    recipe: str
    history: Sequence[Mapping[str, float]]
    measures: Sequence[Measures]
    thresholds: Mapping[str, float]
    train: Sequence[ScoredClip]
    tests: Sequence[ScoredClip]
    features: FeatureSpec


@dataclass(frozen=True, slots=True)
class _Part:
    """A chapter of the page: a picture, how to read it, and HTML to put below it."""

    name: str
    title: str
    text: str
    png: bytes | None
    below: str = ""

    def to_html(self) -> str:
        image = "<p>Nothing to show.</p>"
        if self.png is not None:
            content = base64.b64encode(self.png).decode()
            image = f'<img alt="{escape(self.title)}" src="data:image/png;base64,{content}">'
        return f"<h2>{escape(self.title)}</h2>\n<p>{escape(self.text)}</p>\n{image}\n{self.below}"


def write_report(folder: Path, report: ReportInput) -> Path:
    """Write report.html, which needs no other file, and its pictures to report/ in *folder*.

    The same input gives the same bytes.  If a test clip can no longer be read, the page names it
    with the reason.

    Returns:
        Path of the page.

    Raises:
        StorageError: If a file cannot be written.
    """
    parts = _parts(report)
    for part in parts:
        _write_picture(folder / "report" / f"{part.name}.png", part.png)
    body = "\n".join(
        [_facts_table(report), _measures_table(report), *(part.to_html() for part in parts)]
    )
    page = _PAGE.substitute(title=escape(report.title), body=body, recipe=escape(report.recipe))
    path = folder / "report.html"
    # A file name need not be valid Unicode.
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    return path


def _parts(report: ReportInput) -> list[_Part]:
    tests, thresholds = report.tests, report.thresholds
    tested = sorted({one.clip.section for one in tests})
    return [
        _Part(
            "scores",
            "Scores of the test clips",
            "Normal and anomalous clips should not overlap, and the threshold should lie between "
            "them in both domains; scores far out are counted in the outermost bars.",
            draw_histograms(tests, thresholds, tested),
        ),
        _Part(
            "roc",
            "ROC curves",
            "The higher the curve the better; the grey band is where the pAUC is measured, the "
            "dotted diagonal is chance, and a dot is what the threshold makes of the test clips.",
            draw_roc(tests, report.measures, thresholds, tested),
        ),
        _Part(
            "embeddings",
            "Embeddings",
            "Each mark is the mean embedding of a clip: anomalies can be found where they lie "
            "apart from the normal clips of their own section, and normal test clips should lie "
            "among those trained on; distances between far groups mean little in t-SNE.",
            draw_embeddings(report.train, tests),
        ),
        _miss_part(
            report,
            "anomaly",
            "missed",
            "Anomalous clips with the lowest scores",
            "Lowest against their section's threshold; where the right side shows no lasting "
            "colour, the fault hardly shows in the log-mel.",
        ),
        _miss_part(
            report,
            "normal",
            "false_alarms",
            "Normal clips with the highest scores",
            "Highest against their section's threshold; lasting colour on the right side is sound "
            "that the training clips of the domain lack.",
        ),
        _Part(
            "losses",
            "Losses",
            "Each term should have settled by the last epoch; one that reaches its floor in the "
            "first epochs was too easy to teach the network much.",
            draw_losses(report.history),
        ),
    ]


def _miss_part(report: ReportInput, label: str, name: str, title: str, text: str) -> _Part:
    misses = find_misses(report.train, report.tests, report.thresholds, label, report.features)
    rows: list[list[str | float]] = [
        [
            miss.scored.clip.path.name,
            miss.scored.clip.section,
            miss.scored.clip.domain,
            miss.scored.score,
            miss.threshold,
            miss.verdict,
        ]
        for miss in misses
    ]
    below = _table(("clip", "section", "domain", "score", "threshold", "decision"), rows)
    for miss in misses:
        if miss.fault:
            below += f"<p>Not drawn: {escape(miss.fault)}</p>\n"
    return _Part(name, title, text, draw_misses(misses, report.features), below if misses else "")


def _facts_table(report: ReportInput) -> str:
    return "<table>\n" + "".join(map(_row, report.facts.items())) + "</table>"


def _measures_table(report: ReportInput) -> str:
    if not report.measures:
        return "<h2>Measures</h2>\n<p>Nothing was measured.</p>"
    heads = ("section", "domain", "normal", "anomalous", *_MEASURE_HEADS, "threshold")
    rows: list[list[str | float]] = [
        [
            one.section,
            one.domain,
            one.n_normal,
            one.n_anomaly,
            *(getattr(one, name) for name in MEASURES),
            report.thresholds.get(one.section, math.nan),
        ]
        for one in report.measures
    ]
    for name, mean in (("arithmetic", statistics.fmean), ("harmonic", statistics.harmonic_mean)):
        rows.append([f"{name} mean", "", "", "", *mean_of(report.measures, mean).values(), ""])
    untested = sorted(set(report.thresholds) - {one.section for one in report.measures})
    return (
        f"<h2>Measures</h2>\n<p>Official score <strong>{official_score(report.measures):.4f}"
        "</strong>: the harmonic mean of every AUC and pAUC, of which 0.5 is chance.</p>\n"
        + _table(heads, rows)
        + (f"<p>Not tested: section {escape(', '.join(untested))}.</p>\n" if untested else "")
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    return f"<table>\n<tr>{head}</tr>\n" + "".join(map(_row, rows)) + "</table>\n"


def _row(cells: Iterable[str | float]) -> str:
    return "<tr>" + "".join(map(_cell, cells)) + "</tr>\n"


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    shown = str(value) if isinstance(value, int) else f"{value:.3f}"
    return f'<td class="number">{shown}</td>'


def _write_picture(path: Path, png: bytes | None) -> None:
    if png is not None:
        write_atomically(path, png)
        return
    # Removes the picture of an earlier report.
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be removed ({exc.strerror})") from exc
