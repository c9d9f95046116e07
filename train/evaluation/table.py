"""Trains and evaluates recipes on machine types with several seeds, for one table of results.

The figures of Cai et al. (DCASE 2021) are here too, to stand beside ours.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgeasd.common.errors import EdgeasdError
from train.data.datasets import machine_folders
from train.evaluation.evaluate import METRICS, evaluate
from train.recipe.recipe import Recipe
from train.runs.fit import fit
from train.runs.run import StoppedError, write_atomically, write_csv

logger = logging.getLogger(__name__)

SEED = "{seed}"
"""Placeholder in the name of the data, which is replaced by the seed."""

_COLUMNS = (
    "recipe", "machine_type", "seed", "epochs", "method", "section", "domain",
    "n_normal", "n_anomaly", "auc", "pauc", "precision", "recall", "f1",
)  # fmt: skip

MACHINE_TYPES = ("fan", "gearbox", "slider", "ToyTrain", "ToyCar", "pump", "valve")
"""Machine types in the order of the paper, by the names of their folders in DCASE 2021 Task 2."""

OFFICIAL = "official score"

_DEVELOPMENT = {"00", "01", "02"}
_EVALUATION = {"03", "04", "05"}

# Table 2: official score by machine type, and their harmonic mean, in percent.
_TABLE_2 = {
    "mbv2": (60.30, 57.43, 59.43, 51.10, 53.60, 56.17, 55.19, 56.01),
    "mbv2-cl": (60.61, 58.87, 60.70, 50.92, 52.51, 56.90, 54.38, 56.18),
    "mbv2-mf": (64.08, 65.38, 59.83, 49.69, 55.38, 59.50, 53.74, 57.75),
    "mbv2-cl-mf": (64.45, 67.16, 58.66, 51.89, 56.15, 57.27, 53.46, 57.99),
}
# Table 1: AUC by machine type, as table 3 shows, and the official score.
_TABLE_1 = {
    "ae-baseline": (60.68, 65.49, 57.22, 68.51, 65.93, 58.30, 51.87, 56.375),
    "mbv2-baseline": (64.96, 51.14, 72.92, 42.91, 42.73, 67.97, 53.13, 54.770),
    "challenge": (90.68, 58.00, 77.34, 47.49, 53.81, 77.82, 53.53, 60.966),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a table.

    Attributes:
        recipe: Recipe, with its seed.
        data: Folder of one machine type.
        folder: Folder of the run.
    """

    recipe: Recipe
    data: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one run.

    Attributes:
        recipe: Name of the recipe.
        machine_type: Machine type, for example ``fan``.
        seed: Seed of the run.
        metrics: Content of metrics.json.
    """

    recipe: str
    machine_type: str
    seed: int
    metrics: dict[str, Any]


def make_table(
    plans: Sequence[Plan], folder: Path, device: torch.device
) -> tuple[list[Result], list[str]]:
    """Train and evaluate runs that are not complete, and write results.json and results.csv.

    After an interruption it continues: with the last epoch of the run in `fit`, and with the first
    run that is not complete.

    Args:
        plans: Runs of the table, in order.
        folder: Folder for the results.
        device: Device to train on.

    Returns:
        The results, and messages about runs that failed.

    Raises:
        StoppedError: If the user interrupts.
    """
    results, faults = [], []
    for number, plan in enumerate(plans, start=1):
        title = f"{number}/{len(plans)} {plan.folder}"
        try:
            if _read_metrics(plan) is None:
                logger.info("%s", title)
                fit(plan.recipe, plan.data, plan.folder, device)
                evaluate(plan.folder, plan.data)
            metrics = _read_metrics(plan)
        except StoppedError:
            raise
        except EdgeasdError as exc:
            # One run that fails does not stop the others, which take hours.
            logger.error("%s: %s", title, exc)  # noqa: TRY400 - no traceback for an operator
            faults.append(f"{plan.folder}: {exc}")
            continue
        assert metrics is not None
        machine_type = plan.folder.parents[1].name
        results.append(Result(plan.recipe.name, machine_type, plan.recipe.seed, metrics))
        write_results_table(results, folder)
    return results, faults


def plan_runs(
    data: str, recipes: Sequence[Recipe], seeds: Sequence[int], folder: Path
) -> list[Plan]:
    """Return the runs of a table, ordered by seed, so that all recipes appear in it early.

    Args:
        data: Folder of one or several machine types; ``{seed}`` in it is replaced.
        recipes: Recipes, whose seeds are replaced.
        seeds: Seeds; each gives one run of each recipe.
        folder: Folder of the runs, which are ``<machine type>/<recipe>/seed-<seed>`` in it.

    Raises:
        EdgeasdError: If a folder holds no recordings, or two machine types have the same name.
    """
    plans = []
    for seed in seeds:
        root = Path(data.replace(SEED, str(seed)))
        if not root.is_dir():
            raise EdgeasdError(f"{root}: must be a folder of recordings")
        machines = machine_folders(root)
        for recipe in recipes:
            for machine in machines:
                run = folder / machine.resolve().name / recipe.name / f"seed-{seed}"
                plans.append(Plan(recipe.override(seed=seed), machine, run))
    folders = [plan.folder for plan in plans]
    for one in folders:
        if folders.count(one) > 1:
            raise EdgeasdError(
                f"{data}: must not hold two machine types named {one.parents[1].name}; "
                "make a table of each, with --out"
            )
    return plans


def write_results_table(results: Sequence[Result], folder: Path) -> None:
    """Write results.json and results.csv, which has a row for each section and domain."""
    content = json.dumps([asdict(one) for one in results], indent=1) + "\n"
    write_atomically(folder / "results.json", content.encode())
    rows = (row for one in results for row in _rows(one))
    write_csv(folder / "results.csv", [_COLUMNS, *rows])


def _rows(result: Result) -> Iterator[list[Any]]:
    for method, table in result.metrics["methods"].items():
        for section in table["sections"]:
            row = {
                **asdict(result), "epochs": result.metrics["epochs"], "method": method, **section
            }  # fmt: skip
            yield [row[name] for name in _COLUMNS]


def _read_metrics(plan: Plan) -> dict[str, Any] | None:
    """Return the metrics of a complete run; `None` if it is not complete."""
    try:
        metrics: dict[str, Any] = json.loads((plan.folder / METRICS).read_text(encoding="utf-8"))
        done, wanted = metrics["recipe"], asdict(plan.recipe)
        same_data = metrics["data"] == str(plan.data.resolve())
        # More epochs than wanted are accepted; everything else must be equal.
        enough = metrics["epochs"] >= (wanted["optimiser"]["epochs"] if plan.recipe.trains else 0)
        wanted["optimiser"]["epochs"] = done["optimiser"]["epochs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metrics if enough and same_data and done == wanted else None


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of the paper, or its form for other data.

    Attributes:
        title: Title of the table.
        by_auc: Whether the column of a machine type is the harmonic mean of its AUCs, instead of
            the official score.
        figures: Figures by recipe, then by machine type or `OFFICIAL`, from 0 to 1.
    """

    title: str
    by_auc: bool = False
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def paper_table(results: Iterable[Result]) -> PaperTable:
    """Return the table of the paper for the data of *results*, by the sections that were tested.

    In DCASE 2021, sections 00 to 02 are development data, and sections 03 to 05 evaluation data.
    """
    sections: set[str] = set()
    machines: set[str] = set()
    for one in results:
        machines.add(one.machine_type)
        for table in one.metrics["methods"].values():
            sections.update(row["section"] for row in table["sections"])
    if machines and machines <= set(MACHINE_TYPES):
        if sections == _DEVELOPMENT:
            return PaperTable("table 2: official score", figures=_shares(_TABLE_2))
        if sections == _EVALUATION:
            return PaperTable(
                "table 1: AUC, official score", by_auc=True, figures=_shares(_TABLE_1)
            )
    return PaperTable("official score")


def _shares(percents: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    names = (*MACHINE_TYPES, OFFICIAL)
    return {
        recipe: {name: value / 100 for name, value in zip(names, row, strict=True)}
        for recipe, row in percents.items()
    }
