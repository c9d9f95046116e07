from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgeasd.common.errors import ConfigError
from tests.train.toy import RECIPE, run_team
from train.data.bank import WindowBank
from train.data.split import load_training_data
from train.networks.losses import (
    loss_terms,
    total_loss,
)
from train.networks.model import SectionNet
from train.recipe.recipe import Recipe
from train.recipe.tables import LossRecipe
from train.runs.fit import (
    _check_size,
    _join_networks,
)
from train.runs.run import (
    Run,
    make_network,
)
from train.runs.team import (
    Team,
    join_team,
)

CPU = torch.device("cpu")


def test_team_step_has_losses_and_gradients_of_one_process_with_the_whole_batch() -> None:
    """Losses and averaged gradients of two processes are those of one, to 1e-6."""
    done = run_team(Path(__file__).with_name("team_script.py"))

    assert done.returncode == 0, done.stderr


def test_fit_by_two_processes_leaves_one_run_near_that_of_one(
    toy_run: Path, toy_data: Path, tmp_path: Path
) -> None:
    """Two processes write one checkpoint and one line for each epoch, and learn what one does."""
    done = fit_by_team(RECIPE.override(epochs=2), toy_data, tmp_path)

    assert done.count('"epoch": 1,') == done.count('"epoch": 2,') == 1
    run = Run(tmp_path / "run")
    lines = log_of(run)
    assert run.read_checkpoint()["history"] == lines
    assert [line["epoch"] for line in lines] == [1, 2]
    (alone,) = log_of(Run(toy_run))
    # Batch normalisation sees half a batch, four windows: the terms were 5, 6 and 0.2 % apart, the
    # total 0.2 %.  Processes that do not share gradients or negatives were 40 % apart in the last.
    assert lines[0]["loss"] == pytest.approx(alone["loss"], rel=0.05)
    for name in ("reconstruction", "classification", "contrastive"):
        assert lines[0][name] == pytest.approx(alone[name], rel=0.15)


@pytest.mark.parametrize(
    "loss",
    [
        LossRecipe(),
        LossRecipe(reconstruction=0.0, classification=0.0),
        LossRecipe(contrastive=0.0),
        LossRecipe(reconstruction=0.0, contrastive=0.0),
    ],
)
def test_fit_all_that_can_learn_gets_a_gradient(loss: LossRecipe, toy_data: Path) -> None:
    """What a recipe leaves out of the loss is frozen: processes would wait for its gradient."""
    recipe = replace(RECIPE, loss=loss)
    network = make_network(recipe, load_training_data(toy_data, recipe))
    assert isinstance(network, SectionNet)
    model = _join_networks(recipe, network)

    terms = loss_terms(model(torch.randn(4, 1, 64, 128)), torch.tensor([0, 1, 0, 1]), loss)
    total_loss(terms, loss).backward()  # type: ignore[no-untyped-call]

    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


@pytest.mark.parametrize(("batch_size", "n_processes"), [(8, 3), (8, 8)])
def test_fit_batch_that_cannot_be_shared_is_refused(
    batch_size: int, n_processes: int, toy_data: Path
) -> None:
    """Each process takes as many windows of a batch as any other, and at least two."""
    recipe = replace(RECIPE, optimiser=replace(RECIPE.optimiser, batch_size=batch_size))
    bank = WindowBank(load_training_data(toy_data, recipe), CPU)

    with pytest.raises(ConfigError) as error:
        _check_size(bank, recipe, Team(0, n_processes, CPU))

    assert str(error.value) == (
        f"optimiser.batch_size=8 must be a multiple of {n_processes}, the number of processes, "
        "and at least twice that"
    )


def test_join_team_alone_is_a_team_of_one() -> None:
    """Without ``torchrun`` nothing is shared, gathered or averaged."""
    rows, model = torch.ones(3, 2), torch.nn.Linear(2, 2)

    with join_team(CPU) as team:
        assert (team.rank, team.size, team.is_first) == (0, 1, True)
        assert team.wrap(model) is model
        assert team.gather(rows) is rows
        assert team.part(torch.arange(3)).tolist() == [0, 1, 2]
        assert team.mean({"loss": torch.tensor(0.5)}) == {"loss": 0.5}


def test_join_team_with_too_few_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a GPU of its own is told before anything waits for it."""
    n_gpus = torch.cuda.device_count()
    monkeypatch.setenv("WORLD_SIZE", str(n_gpus + 2))
    monkeypatch.setenv("LOCAL_RANK", str(n_gpus))

    message = f"--nproc-per-node must be at most {n_gpus}, the number of GPUs"
    with (
        pytest.raises(ConfigError, match=f"^{re.escape(message)}$"),
        join_team(torch.device("cuda")),
    ):
        pass


def fit_by_team(recipe: Recipe, data: Path, folder: Path) -> str:
    """Fit *recipe* by two processes to ``run`` in *folder* and return their messages."""
    path = folder / "toy.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    command = ("fit", path, "--data", data, "--out", folder / "run", "--device", "cpu")
    done = run_team("-m", "train", *command)
    assert done.returncode == 0, done.stderr
    return done.stderr


def log_of(run: Run) -> list[dict[str, float]]:
    """Return the lines of a run's log."""
    return [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
