"""The training loop."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from edgeasd.errors import ConfigError, EdgeasdError
from train.bank import WindowBank
from train.console import console
from train.data import TrainingData, load_training_data
from train.losses import loss_terms, total_loss
from train.model import JointModel
from train.recipe import Recipe
from train.run import Run, RunInfo, make_network, write_atomically
from train.simulated import simulated_data

logger = logging.getLogger(__name__)

_SHOW_EVERY = 10  # steps: reading a loss waits for the device


def fit(recipe: Recipe, data_folder: Path | None, run_folder: Path, device: torch.device) -> None:
    """Train by *recipe*; continue if *run_folder* has a beginning.

    On the CPU a run that was stopped and continued gives the weights of one that was not.

    Args:
        recipe: What to do.
        data_folder: Clips of one machine type; `None` of a recipe that makes its own.
        run_folder: Where the run is kept.
        device: Where to train.

    Raises:
        EdgeasdError: If the data cannot be trained on, the folder holds another run, or the loss
            is not finite any more.
    """
    run = Run(run_folder)
    if data_folder is None:
        data_folder = simulated_data(recipe, run_folder / "data")
    data = load_training_data(data_folder, recipe)
    info = RunInfo.of(recipe, data_folder, data)
    torch.manual_seed(recipe.seed)
    bank = WindowBank(data, device)
    _check_size(bank, recipe)
    model = _make_model(recipe, data, bank).to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    history = _resume(run, info, model, optimiser)
    if history is None:
        history = []
        run.write_info(info, recipe)  # first: a checkpoint without it could not be continued
        _save(run, model, optimiser, history)
    else:
        run.write_info(replace(run.read_info(), data=info.data), recipe)
    logger.info(
        "%s: %d windows of %d clips, %d clips held out for the threshold, %d of %d epochs done",
        run_folder, info.n_windows, info.n_clips, len(info.held_out), len(history),
        recipe.optimiser.epochs,
    )  # fmt: skip
    try:
        for epoch in range(len(history), recipe.optimiser.epochs):
            history.append(_train_epoch(epoch, recipe, bank, model, optimiser))
            _save(run, model, optimiser, history)
    except KeyboardInterrupt:
        raise EdgeasdError(
            f"{run_folder}: stopped after {len(run.read_checkpoint()['history'])} of "
            f"{recipe.optimiser.epochs} epochs; the same command continues"
        ) from None


def _train_epoch(
    epoch: int,
    recipe: Recipe,
    bank: WindowBank,
    model: JointModel,
    optimiser: torch.optim.Optimizer,
) -> dict[str, float]:
    """Train for one epoch and return its line of the log."""
    rate = recipe.optimiser.learning_rate * 0.5 ** (epoch // recipe.optimiser.halve_every)
    for group in optimiser.param_groups:
        group["lr"] = rate
    batch_size = recipe.optimiser.batch_size
    n_steps = len(bank) // batch_size
    sums: dict[str, Tensor] = {}
    model.train()
    started = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task(
            f"epoch {epoch + 1}/{recipe.optimiser.epochs}", total=n_steps, text=""
        )
        for step, index in enumerate(bank.batches(batch_size), start=1):
            windows, sections = bank.fetch(index)  # (B, 1, T, M), (B,)
            windows = windows.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cuda", torch.bfloat16, enabled=windows.is_cuda):
                output = model(windows)
            terms = loss_terms(output, sections, recipe.loss)
            loss = total_loss(terms, recipe.loss)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            for name, term in (("loss", loss), *terms.items()):
                sums[name] = sums.get(name, 0.0) + term.detach()
            if step % _SHOW_EVERY == 0 or step == n_steps:
                speed = step * batch_size / (time.perf_counter() - started)
                text = _describe(sums, step)
                progress.update(task, completed=step, text=f"{text}, {speed:.0f} windows/s")
    seconds = time.perf_counter() - started
    means = {name: value.item() / n_steps for name, value in sums.items()}
    _check_finite(means, epoch)
    return {
        "epoch": epoch + 1, "learning_rate": rate, **means,
        "seconds": round(seconds, 2), "windows_per_s": round(n_steps * batch_size / seconds, 1),
    }  # fmt: skip


def _make_model(recipe: Recipe, data: TrainingData, bank: WindowBank) -> JointModel:
    cnn = make_network(recipe, len(data.sections))
    cnn.standardise.learn(bank.rows.cpu())
    has_autoencoder = recipe.loss.reconstruction > 0 or recipe.loss.contrastive > 0
    n_inputs = recipe.window.n_frames * recipe.features.n_mels if has_autoencoder else 0
    return JointModel(cnn, n_inputs, normalise=recipe.loss.normalise)


def _resume(
    run: Run, info: RunInfo, model: JointModel, optimiser: torch.optim.Optimizer
) -> list[dict[str, Any]] | None:
    """Restore the state of the last completed epoch and return the log; `None` of a new run."""
    if not run.checkpoint.exists():
        return None
    before = run.read_info()
    for what in ("recipe_digest", "data_digest"):
        if getattr(before, what) != getattr(info, what):
            raise ConfigError(
                f"{run.folder}: holds a run of recipe {before.recipe} with another "
                f"{what.removesuffix('_digest')}; choose another folder with --out"
            )
    state = run.read_checkpoint()
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["rng"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    history: list[dict[str, Any]] = state["history"]
    return history


def _save(
    run: Run,
    model: JointModel,
    optimiser: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    run.write_checkpoint(
        {
            "epoch": len(history),
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "history": history,
        }
    )
    # Written from the checkpoint's history: a line is there if and only if its epoch is.
    lines = "".join(json.dumps(line) + "\n" for line in history)
    write_atomically(run.log, lines.encode())
    if history and not console.is_terminal:
        logger.info("%s", lines.splitlines()[-1])


def _check_size(bank: WindowBank, recipe: Recipe) -> None:
    if len(bank) < recipe.optimiser.batch_size:
        raise ConfigError(
            f"optimiser.batch_size={recipe.optimiser.batch_size} must be at most {len(bank)}, the "
            "number of training windows"
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


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=console,
        disable=not console.is_terminal,
    )
