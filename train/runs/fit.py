"""The training loop."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from edgeasd.common.errors import ConfigError, EdgeasdError
from train.console import console
from train.data.bank import WindowBank
from train.data.simulated import simulated_data
from train.data.split import load_training_data, tell_few_clips
from train.networks.augmentation import augment
from train.networks.losses import loss_terms, total_loss
from train.networks.model import JointModel, ReconstructionNet, SectionNet, Statistics
from train.recipe.recipe import Recipe
from train.recipe.tables import LossRecipe
from train.runs.run import Run, RunInfo, StoppedError, make_network, write_atomically
from train.runs.team import Team, join_team

logger = logging.getLogger(__name__)

_SHOW_EVERY = 10
"""Steps between two updates of the progress, because reading a loss waits for the device."""


def fit(
    recipe: Recipe,
    data_folder: Path | None,
    run_folder: Path,
    device: torch.device,
    background: Path | None = None,
) -> None:
    """Train by *recipe*, or continue the run in *run_folder*.

    The random numbers of an epoch depend only on seed and epoch.  On the CPU, a run that was
    interrupted and continued gives the same weights as one that was not.  Under ``torchrun`` each
    process takes its share of every batch.

    Args:
        recipe: Recipe to train by.
        data_folder: Folder of clips of one machine type; `None` if the recipe simulates its data.
        run_folder: Folder of the run.
        device: Device to train on.
        background: Folder of other recordings, which the network learns to distinguish from the
            machine.

    Raises:
        EdgeasdError: If the data cannot be trained on, the folder holds another run, or the loss
            is no longer finite.
        StoppedError: If the user interrupts.
    """
    run = Run(run_folder)
    with join_team(device) as team:
        if data_folder is None:
            data_folder = team.share(partial(simulated_data, recipe, run_folder / "data"))
        data = team.share(partial(load_training_data, data_folder, recipe, background))
        info = RunInfo.of(recipe, data_folder, background, data)
        if team.is_first:
            tell_few_clips(data, recipe)
        bank = WindowBank(data, team.device)
        torch.manual_seed(recipe.seed)
        network = make_network(recipe, data)
        network.standardise.learn(bank.rows.cpu(), scale=recipe.network.standardise)
        if isinstance(network, Statistics):
            if team.is_first:
                _keep_statistics(run, info, recipe, network)
            return
        _check_size(bank, recipe, team)
        model = _join_networks(recipe, network).to(team.device)
        _Trainer(recipe, bank, model.to(memory_format=torch.channels_last), team, run).run(info)


class _Trainer:
    """Trains the epochs of a run."""

    def __init__(
        self, recipe: Recipe, bank: WindowBank, model: JointModel, team: Team, run: Run
    ) -> None:
        self._recipe = recipe
        self._bank = bank
        self._model = model
        self._replica = team.wrap(model)
        self._optimiser = torch.optim.Adam(model.parameters(), fused=True)
        self._team = team
        self._run = run

    def run(self, info: RunInfo) -> None:
        """Train all epochs that are not completed."""
        n_epochs = self._recipe.optimiser.epochs
        history = self._begin(info)
        if self._team.is_first:
            logger.info(
                "%s: %d windows of %d clips, %d clips held out for the threshold, "
                "%d of %d epochs done",
                self._run.folder, info.n_windows, info.n_clips, len(info.held_out), len(history),
                n_epochs,
            )  # fmt: skip
        try:
            for epoch in range(len(history), n_epochs):
                history.append(self._train_epoch(epoch))
                self._save(history)
        except KeyboardInterrupt:
            raise StoppedError(
                f"{self._run.folder}: stopped after "
                f"{len(self._run.read_checkpoint()['history'])} of {n_epochs} epochs; "
                "the same command continues"
            ) from None

    def _begin(self, info: RunInfo) -> list[dict[str, float]]:
        """Restore the state of the last completed epoch, if any, and return the log."""
        state = _read_state(self._run, info)
        if state is None:
            if self._team.is_first:
                # Written first, because a checkpoint without it could not be continued.
                self._run.write_info(info, self._recipe)
            self._save([])
            return []
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._team.is_first:
            self._run.write_info(replace(self._run.read_info(), data=info.data), self._recipe)
        history: list[dict[str, float]] = state["history"]
        return history

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch and return its entry of the log."""
        recipe = self._recipe.optimiser
        rate = recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        order = torch.Generator().manual_seed(_seed(self._recipe.seed, epoch))
        torch.manual_seed(_seed(self._recipe.seed, epoch, self._team.rank))
        n_steps = len(self._bank) // recipe.batch_size
        sums: dict[str, Tensor] = {}
        self._model.train()
        started = time.perf_counter()
        with _progress(shown=self._team.is_first) as progress:
            task = progress.add_task(f"epoch {epoch + 1}/{recipe.epochs}", total=n_steps, text="")
            for step, index in enumerate(self._bank.batches(recipe.batch_size, order), start=1):
                for name, term in self._step(index).items():
                    sums[name] = sums.get(name, 0.0) + term
                if step % _SHOW_EVERY == 0 or step == n_steps:
                    speed = step * recipe.batch_size / (time.perf_counter() - started)
                    text = f"{_describe(sums, step)}, {speed:.0f} windows/s"
                    progress.update(task, completed=step, text=text)
        means = self._team.mean({name: value / n_steps for name, value in sums.items()})
        seconds = time.perf_counter() - started
        _check_finite(means, epoch)
        return {
            "epoch": epoch + 1, "learning_rate": rate, **means, "seconds": round(seconds, 2),
            "windows_per_s": round(n_steps * recipe.batch_size / seconds, 1),
        }  # fmt: skip

    def _step(self, index: Tensor) -> dict[str, Tensor]:
        """Train on the windows of *index* and return the loss and its terms."""
        windows, sections = self._bank.fetch(self._team.part(index))  # (B, 1, T, M), (B,)
        fill = self._model.network.standardise.mean
        windows, mix = augment(windows, fill, self._recipe.augmentation)
        windows = windows.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=windows.is_cuda):
            output = self._replica(windows)
        if output.projections is not None:
            # The negatives of Eq. 4 come from the whole batch.
            u, p = map(self._team.gather, output.projections)
            output = replace(output, projections=(u, p))
        terms = loss_terms(output, sections, self._recipe.loss, mix)
        loss = total_loss(terms, self._recipe.loss)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def _save(self, history: list[dict[str, float]]) -> None:
        if not self._team.is_first:
            return
        state = {"model": self._model.state_dict(), "optimiser": self._optimiser.state_dict()}
        self._run.write_checkpoint({**state, "history": history})
        # Written from the history of the checkpoint, so that it has the same epochs.
        lines = "".join(json.dumps(line) + "\n" for line in history)
        write_atomically(self._run.log, lines.encode())
        if history and not console.is_terminal:
            logger.info("%s", lines.splitlines()[-1])


def _join_networks(recipe: Recipe, network: SectionNet | ReconstructionNet) -> JointModel:
    """Return *network* with the networks that are trained beside it."""
    has_autoencoder = recipe.loss.reconstruction > 0 or recipe.loss.contrastive > 0
    n_inputs = recipe.window.n_frames * recipe.features.n_mels if has_autoencoder else 0
    model = JointModel(network, n_inputs, normalise=recipe.loss.normalise)
    # Processes wait for the gradients of all trainable parameters of each other.
    for part in _parts_left_out(model, recipe.loss):
        part.requires_grad_(requires_grad=False)
    return model


def _parts_left_out(model: JointModel, loss: LossRecipe) -> list[nn.Module]:
    """Return the parts without a gradient, because their terms of the loss have no weight."""
    parts: list[nn.Module] = []
    if isinstance(model.network, ReconstructionNet):
        return parts
    if loss.classification == 0:
        parts.append(model.network.classifier)
    if hasattr(model, "autoencoder") and loss.reconstruction == 0:
        parts.append(model.autoencoder.decoder)
    if hasattr(model, "autoencoder") and loss.contrastive == 0:
        parts.append(model.projection)
    return parts


def _keep_statistics(run: Run, info: RunInfo, recipe: Recipe, network: Statistics) -> None:
    """Write a run without training, which only learns mean and deviation of the mel bins."""
    _read_state(run, info)
    run.write_info(info, recipe)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    run.write_checkpoint({"model": state, "history": []})
    logger.info(
        "%s: %d clips; recipe %s takes statistics, nothing to train", run.folder, info.n_clips,
        recipe.name,
    )  # fmt: skip


def _seed(*numbers: int) -> int:
    """Return a 64-bit seed that depends on each of *numbers*."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _read_state(run: Run, info: RunInfo) -> dict[str, Any] | None:
    """Return the checkpoint of *run*; `None` for a new run.

    Raises:
        ConfigError: If the folder holds a run with another recipe or data than *info*.
    """
    if not run.checkpoint.exists():
        return None
    before = run.read_info()
    for what in ("recipe_digest", "data_digest"):
        if getattr(before, what) != getattr(info, what):
            raise ConfigError(
                f"{run.folder}: holds a run of recipe {before.recipe} with another "
                f"{what.removesuffix('_digest')}; choose another folder with --out"
            )
    return run.read_checkpoint()


def _check_size(bank: WindowBank, recipe: Recipe, team: Team) -> None:
    batch_size = recipe.optimiser.batch_size
    if len(bank) < batch_size:
        raise ConfigError(
            f"optimiser.batch_size={batch_size} must be at most {len(bank)}, the number of "
            "training windows"
        )
    # Batch normalisation needs at least two windows in each process.
    if batch_size % team.size or batch_size // team.size < 2:
        raise ConfigError(
            f"optimiser.batch_size={batch_size} must be a multiple of {team.size}, the number of "
            "processes, and at least twice that"
        )


def _check_finite(means: Mapping[str, float], epoch: int) -> None:
    for name, value in means.items():
        if not abs(value) < float("inf"):
            raise EdgeasdError(
                f"{name}={value} must be finite in epoch {epoch + 1}; lower "
                "optimiser.learning_rate or keep loss.normalise=true"
            )


def _describe(sums: Mapping[str, Tensor], step: int) -> str:
    return ", ".join(f"{name} {value.item() / step:.3f}" for name, value in sums.items())


def _progress(*, shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        disable=not (shown and console.is_terminal),
    )
