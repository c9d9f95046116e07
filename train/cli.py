"""The commands of ``python -m train``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click
import torch

from edgeasd.common.errors import ConfigError, EdgeasdError
from edgeasd.common.output import say
from edgeasd.common.text import LineFormatter
from edgeasd.detect.model.document import METHODS
from train.evaluation.evaluate import evaluate
from train.evaluation.show import print_evaluation, print_results
from train.evaluation.table import make_table, plan_runs
from train.export.export import export
from train.recipe.recipe import load_recipe
from train.runs.fit import fit

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_DATA = click.Path(exists=True, path_type=Path)

_TABLE_RECIPES = (
    "ae-baseline", "ae", "mbv2-baseline", "mbv2", "mbv2-cl", "mbv2-mf", "mbv2-cl-mf", "challenge",
    "logmel-nn", "logmel-mahalanobis", "edge",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def _cli() -> None:
    """Train on recordings of normal sound, and make a model file for the daemon."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("train").setLevel(logging.INFO)  # not the root: torch's exporter logs a lot


@_cli.command("fit")
@click.argument("recipe_path", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option(
    "--data", type=_DATA, help="Folder with the clips of one machine type, or a manifest."
)
@click.option(
    "--background",
    type=_FOLDER,
    help="Folder with recordings of other machines, as a class of their own.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run; else runs/RECIPE.")
@click.option("--epochs", type=click.IntRange(min=1), help="Overrides the recipe.")
@click.option("--seed", type=click.IntRange(min=0), help="Overrides the recipe.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
def _fit(
    *,
    recipe_path: Path,
    data: Path | None,
    background: Path | None,
    out: Path | None,
    epochs: int | None,
    seed: int | None,
    device: str,
) -> None:
    """Train as RECIPE says; the same command continues an interrupted run."""
    recipe = load_recipe(recipe_path).override(epochs=epochs, seed=seed)
    fit(recipe, data, out or Path("runs") / recipe.name, _device(device), background)


@_cli.command("evaluate")
@click.argument("run", type=_FOLDER)
@click.option("--data", type=_DATA, help="Where the clips are, if they were moved.")
def _evaluate(run: Path, data: Path | None) -> None:
    """Measure a run on labelled test clips."""
    for evaluation in evaluate(run, data):
        print_evaluation(evaluation)


@_cli.command("table")
@click.argument("data")
@click.option(
    "--recipes",
    default=",".join(_TABLE_RECIPES),
    show_default=True,
    help="Names or files of recipes, separated by commas.",
)
@click.option("--seeds", default="2021,2022,2023", show_default=True, help="Separated by commas.")
@click.option(
    "--out",
    default="runs/table",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the runs and their results.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Overrides the recipes.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ...")
def _table(
    *, data: str, recipes: str, seeds: str, out: Path, epochs: int | None, device: str
) -> None:
    """Train and evaluate each recipe, machine type and seed that has no result yet.

    DATA is the folder of one machine type, or of several; '{seed}' in it is replaced by the seed.
    """
    loaded = [
        load_recipe(_recipe_path(name)).override(epochs=epochs) for name in recipes.split(",")
    ]
    plans = plan_runs(data, loaded, _numbers(seeds), out)
    results, faults = make_table(plans, out, _device(device))
    print_results(results)
    if faults:
        raise EdgeasdError("these runs have no result: " + "; ".join(faults))


@_cli.command("export")
@click.argument("run", type=_FOLDER)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Model file to write.")
@click.option("--scoring", type=click.Choice(METHODS), help="Overrides the recipe.")
@click.option(
    "--int8", is_flag=True, help="Convolutions in int8, if that is as accurate and faster."
)
@click.option("--id", "model_id", default="", help="Name of the model.")
@click.option("--version", default="", help="Version of the model; else the date of today.")
@click.option("--data", type=_DATA, help="Where the clips are, if they were moved.")
def _export(*, run: Path, out: Path, data: Path | None, **options: Any) -> None:
    """Write the model file of a run for the daemon."""
    made = export(run, out, data_folder=data, **options)
    say(
        f"{made.path}: {made.n_bytes / 1e6:.2f} MB, sha256 {made.sha256}; clip scores of torch and "
        f"ONNX Runtime differ by at most {made.difference:.1e} over {made.n_clips} clips"
    )
    if made.int8 is not None:
        say(f"int8 against float32: {made.int8}")


def main() -> None:
    """Run a command; an error that a user can act on gives one line and an exit code."""
    try:
        _cli()
    except EdgeasdError as exc:
        say(f"error: {exc}", err=True)
        sys.exit(exc.exit_code)


def _recipe_path(name: str) -> Path:
    """Return the path of a recipe: one that is shipped, or else a file of the user."""
    shipped = Path(__file__).parent / "recipes" / f"{name}.toml"
    return shipped if shipped.exists() else Path(name)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds={text} must be whole numbers, separated by commas") from None


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as exc:  # AssertionError: a build without CUDA
        reason = str(exc).splitlines()[0]
        raise ConfigError(f"--device={name} must be one that PyTorch can use ({reason})") from exc
