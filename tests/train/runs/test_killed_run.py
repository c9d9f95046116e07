from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.train.toy import CHECKOUT, ONE_THREAD, RECIPE, run_trainer
from train.recipe.recipe import Recipe
from train.recipe.tables import AugmentationRecipe
from train.runs.fit import fit
from train.runs.run import Run


def test_fit_killed_in_mid_epoch_continues_to_the_weights_of_an_uninterrupted_run(
    toy_data: Path, tmp_path: Path
) -> None:
    """After SIGKILL in the second epoch the same command gives the same weights, bit for bit."""
    recipe = _augmented(RECIPE.override(epochs=2))
    path = tmp_path / "toy.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    common = ("fit", path, "--data", toy_data, "--device", "cpu", "--out")

    _kill_after_first_epoch(*common, tmp_path / "killed")
    n_done = len(Run(tmp_path / "killed").read_checkpoint()["history"])
    again = run_trainer(*common, tmp_path / "killed")
    fit(recipe, toy_data, tmp_path / "whole", torch.device("cpu"))

    assert again.returncode == 0, again.stderr
    assert n_done == 1
    assert "1 of 2 epochs done" in again.stderr
    _assert_equal(
        Run(tmp_path / "killed").read_checkpoint(), Run(tmp_path / "whole").read_checkpoint()
    )


def _augmented(recipe: Recipe) -> Recipe:
    """Return *recipe* with every kind of random change, all of which must be drawn alike."""
    return replace(recipe, augmentation=AugmentationRecipe(0.2, 8, 4))


def _kill_after_first_epoch(*args: object) -> None:
    """Kill the trainer once it says that the first epoch is done: it is in the second then."""
    with subprocess.Popen(
        [sys.executable, "-m", "train", *map(str, args)],
        cwd=CHECKOUT,
        env=ONE_THREAD,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert any('"epoch": 1,' in line for line in process.stderr)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def _assert_equal(state: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare weights and optimiser."""
    assert state["model"].keys() == expected["model"].keys()
    for name, value in state["model"].items():
        assert torch.equal(value, expected["model"][name]), name
    for key, moments in expected["optimiser"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(state["optimiser"]["state"][key][name], value)
