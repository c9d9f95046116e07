"""Prints evaluations and results as tables."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from edgeasd.common.text import printable
from train.evaluation.evaluate import Evaluation
from train.evaluation.table import MACHINE_TYPES, OFFICIAL, Result, paper_table
from train.scoring.metrics import MEASURES, mean_of, official_score

_DOMAINS = ("source", "target")
_WIDEST = 1000
"""Largest width of a table, so that it is not cut in a file or a narrow terminal."""


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
            printable(one.section),
            one.domain,
            f"{one.n_normal} + {one.n_anomaly}",
            *(f"{value:.3f}" for value in values),
        )
    table.add_section()
    for title, mean in (("arithmetic", statistics.fmean), ("harmonic", statistics.harmonic_mean)):
        means = mean_of(measures, mean).values()
        table.add_row(title, "mean", "", *(f"{value:.3f}" for value in means))
    Console(width=_WIDEST, markup=False).print(table)
    Console().print(f"official score {official_score(measures):.4f}")


def print_results(results: Sequence[Result]) -> None:
    """Print a score by recipe, scoring method and machine type, and the AUC of each domain.

    The figures are mean and standard deviation over the seeds.  For the development and evaluation
    data of DCASE 2021, the table is table 2 or table 1 of the paper, with its figures below ours.
    """
    machines = _ordered({one.machine_type for one in results})
    paper = paper_table(results)
    table = Table(title=paper.title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("recipe", "scoring", "epochs", "runs"):
        table.add_column(name, no_wrap=True)
    columns = machines if len(machines) > 1 or paper.figures else []
    for name in (*map(printable, columns), "official score", "AUC source", "AUC target"):
        table.add_column(name, justify="right", no_wrap=True)
    for recipe in dict.fromkeys(one.recipe for one in results):
        chosen = [one for one in results if one.recipe == recipe]
        for number, method in enumerate(chosen[0].metrics["methods"]):
            table.add_row(
                "" if number else printable(recipe),
                method,
                _range({one.metrics["epochs"] for one in chosen}),
                str(len(chosen)),
                *(_spread(_scores(chosen, method, machine, paper.by_auc)) for machine in columns),
                _spread(_official_scores(chosen, method, len(machines))),
                *(_spread(_domain_aucs(chosen, method, domain)) for domain in _DOMAINS),
            )
            if not number and recipe in paper.figures:
                figures = paper.figures[recipe]
                row = (f"{figures[name]:.3f}" for name in (*columns, OFFICIAL))
                table.add_row("", "paper", "", "", *row)
    Console(width=_WIDEST, markup=False).print(table)


def _scores(results: Iterable[Result], method: str, machine: str, by_auc: bool) -> list[float]:  # noqa: FBT001
    chosen = (one.metrics["methods"][method] for one in results if one.machine_type == machine)
    return [one["harmonic_mean"]["auc"] if by_auc else one["official_score"] for one in chosen]


def _official_scores(results: Sequence[Result], method: str, n_machines: int) -> list[float]:
    """Return the harmonic mean over machine types, for each seed with all of them."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for one in results:
        by_seed[one.seed].append(one.metrics["methods"][method]["official_score"])
    whole = (scores for scores in by_seed.values() if len(scores) == n_machines)
    return [statistics.harmonic_mean(scores) for scores in whole]


def _domain_aucs(results: Iterable[Result], method: str, domain: str) -> list[float]:
    """Return the mean AUC over the sections of *domain*, for each run."""
    aucs = (
        [
            row["auc"]
            for row in one.metrics["methods"][method]["sections"]
            if row["domain"] == domain
        ]
        for one in results
    )
    return [statistics.fmean(each) for each in aucs if each]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _range(numbers: set[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"


def _ordered(machines: set[str]) -> list[str]:
    """Return machine types in the order of the paper, then others by name."""
    known = [name for name in MACHINE_TYPES if name in machines]
    return [*known, *sorted(machines - set(known))]
