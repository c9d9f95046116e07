"""Tables on stdout."""

from __future__ import annotations

import statistics

from rich import box
from rich.console import Console
from rich.table import Table

from train.evaluate import Evaluation
from train.metrics import MEASURES, mean_of, official_score


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the measures of one scoring method, their means, and the official score."""
    measures = evaluation.measures
    table = Table(title=evaluation.method, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("section", "domain", "clips"):
        table.add_column(name, no_wrap=True)
    for name in ("AUC", "pAUC", "precision", "recall", "F1"):
        table.add_column(name, justify="right")
    for one in measures:
        values = (getattr(one, name) for name in MEASURES)
        table.add_row(
            one.section,
            one.domain,
            f"{one.n_normal} + {one.n_anomaly}",
            *(f"{value:.3f}" for value in values),
        )
    table.add_section()
    for title, mean in (("arithmetic", statistics.fmean), ("harmonic", statistics.harmonic_mean)):
        means = mean_of(measures, mean).values()
        table.add_row(title, "mean", "", *(f"{value:.3f}" for value in means))
    console = Console()
    console.print(table)
    console.print(f"official score {official_score(measures):.4f}")
