from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import train.runs.fit
from edgeasd.common.errors import (
    ConfigError,
    EdgeasdError,
)
from tests.train.toy import CNN_RECIPE, RECIPE, interrupt_at_step, write_clip, write_clips
from train.data.bank import WindowBank
from train.data.split import load_training_data
from train.recipe.recipe import load_recipe
from train.runs.fit import fit
from train.runs.run import Run

CPU = torch.device("cpu")
TWO_EPOCHS = RECIPE.override(epochs=2)


@pytest.fixture(scope="module")
def whole_run(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    fit(TWO_EPOCHS, toy_data, folder, CPU)
    return folder


def test_fit_interrupted_and_continued_gives_weights_of_uninterrupted_run(
    whole_run: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stopped in the middle of its second epoch continues to the very same weights."""
    interrupt_at_step(40, monkeypatch)
    with pytest.raises(EdgeasdError) as error:
        fit(TWO_EPOCHS, toy_data, tmp_path / "run", CPU)
    monkeypatch.undo()
    torch.rand(3)  # what else the process may do in between

    fit(TWO_EPOCHS, toy_data, tmp_path / "run", CPU)

    assert str(error.value) == (
        f"{tmp_path / 'run'}: stopped after 1 of 2 epochs; the same command continues"
    )
    _assert_same_state(tmp_path / "run", whole_run)


def test_fit_finished_run_continues_for_more_epochs(
    toy_run: Path, whole_run: Path, toy_data: Path, tmp_path: Path
) -> None:
    """One epoch and then one more are two epochs; the folder's recipe says two."""
    for path in toy_run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())

    fit(TWO_EPOCHS, toy_data, tmp_path, CPU)

    _assert_same_state(tmp_path, whole_run)
    assert load_recipe(tmp_path / "recipe.toml") == TWO_EPOCHS
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_fit_interrupted_in_first_epoch_leaves_a_checkpoint(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However early it is stopped, a run can be continued."""
    interrupt_at_step(2, monkeypatch)

    with pytest.raises(EdgeasdError, match="stopped after 0 of 1 epochs"):
        fit(RECIPE, toy_data, tmp_path, CPU)

    assert Run(tmp_path).read_checkpoint()["history"] == []


def test_fit_seed_decides_the_weights(toy_run: Path, toy_data: Path, tmp_path: Path) -> None:
    """Same seed, same weights; another seed, other weights."""
    fit(RECIPE, toy_data, tmp_path / "same", CPU)
    fit(RECIPE.override(seed=8), toy_data, tmp_path / "other", CPU)

    _assert_same_state(tmp_path / "same", toy_run)
    name = "network.classifier.weight"
    assert not torch.equal(_weights(tmp_path / "other", name), _weights(toy_run, name))


def test_fit_lowers_the_loss(whole_run: Path) -> None:
    """The total is the weighted sum of its terms, and falls from epoch to epoch."""
    lines = (whole_run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = map(json.loads, lines)

    assert first["loss"] == pytest.approx(
        first["reconstruction"] + first["classification"] + first["contrastive"], abs=1e-4
    )
    assert second["loss"] < first["loss"]
    assert second["reconstruction"] < first["reconstruction"]


def test_fit_halves_the_learning_rate_in_steps(toy_data: Path, tmp_path: Path) -> None:
    """The rate halves after every so many epochs."""
    recipe = replace(CNN_RECIPE, optimiser=replace(CNN_RECIPE.optimiser, epochs=3, halve_every=2))

    fit(recipe, toy_data, tmp_path, CPU)

    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["learning_rate"] for line in lines] == [1e-3, 1e-3, 5e-4]


def test_fit_says_which_clips_are_held_out(
    toy_run: Path, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run's folder names the held-out clips, and the log says how many there are."""
    with caplog.at_level(logging.INFO, "train"):
        fit(CNN_RECIPE, toy_data, tmp_path, CPU)

    held_out = load_training_data(toy_data, RECIPE).held_out
    assert Run(toy_run).read_info().held_out == [one.clip.path.name for one in held_out]
    assert (
        f"{tmp_path}: 260 windows of 20 clips, 4 clips held out for the threshold, "
        "0 of 1 epochs done"
    ) in caplog.messages


def test_fit_on_a_terminal_shows_loss_and_speed(
    toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a terminal, a bar tells each loss term and the windows per second."""
    screen = io.StringIO()
    monkeypatch.setattr(
        train.runs.fit, "console", Console(file=screen, force_terminal=True, width=200)
    )

    fit(RECIPE, toy_data, tmp_path, CPU)

    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", screen.getvalue())
    assert "epoch 1/1" in shown
    assert re.search(
        r"loss [\d.]+, reconstruction [\d.]+, classification [\d.]+, contrastive [\d.]+, "
        r"\d+ windows/s",
        shown,
    )


def test_fit_other_recipe_in_the_same_folder_is_refused(toy_run: Path, toy_data: Path) -> None:
    """A folder keeps to its recipe."""
    with pytest.raises(ConfigError) as error:
        fit(RECIPE.override(seed=8), toy_data, toy_run, CPU)

    assert str(error.value) == (
        f"{toy_run}: holds a run of recipe toy with another recipe; "
        "choose another folder with --out"
    )


def test_fit_other_data_in_the_same_folder_is_refused(toy_run: Path, tmp_path: Path) -> None:
    """A folder keeps to its data: the samples count, not only the names."""
    data = write_clips(tmp_path / "toy_fan")
    write_clip(data / "train" / "section_00_source_train_normal_0000_toy.wav", seed=999)

    with pytest.raises(ConfigError, match="holds a run of recipe toy with another data"):
        fit(RECIPE, data, toy_run, CPU)


def test_fit_loss_that_is_not_finite_stops_with_remedy(toy_data: Path, tmp_path: Path) -> None:
    """A diverging run stops, and keeps the checkpoint from before."""
    recipe = replace(
        RECIPE,
        loss=replace(RECIPE.loss, normalise=False, contrastive=1e30),
        optimiser=replace(RECIPE.optimiser, learning_rate=1e30),
    )

    with pytest.raises(EdgeasdError, match=r"must be finite in epoch 1; lower optimiser\.learning"):
        fit(recipe, toy_data, tmp_path, CPU)

    assert Run(tmp_path).read_checkpoint()["history"] == []


def test_fit_batch_larger_than_data_is_refused(toy_data: Path, tmp_path: Path) -> None:
    """A batch that can never be filled is an error, not an epoch without a step."""
    recipe = replace(RECIPE, optimiser=replace(RECIPE.optimiser, batch_size=261))

    with pytest.raises(ConfigError, match="batch_size=261 must be at most 260, the number of"):
        fit(recipe, toy_data, tmp_path, CPU)


def test_fit_without_data_needs_a_recipe_that_makes_its_own(tmp_path: Path) -> None:
    """Without recordings and without simulator there is nothing to train on."""
    with pytest.raises(ConfigError, match="recipe toy does not simulate its data; name a folder"):
        fit(RECIPE, None, tmp_path, CPU)


@pytest.mark.parametrize("median_frames", [1, 3])
def test_window_bank_fetches_windows_and_sections_of_the_clips(
    median_frames: int, toy_data: Path
) -> None:
    """What a batch holds at an index is that window of the clips one after the other."""
    recipe = replace(RECIPE, window=replace(RECIPE.window, median_frames=median_frames))
    data = load_training_data(toy_data, recipe)
    bank = WindowBank(data, CPU)

    windows, sections = bank.fetch(torch.tensor([259, 14, 0]))

    assert windows.shape == (3, 1, 64, 128)
    for row, (clip, window) in enumerate([(-1, -1), (1, 1), (0, 0)]):
        expected = data.fitted[clip].windows()[window]
        assert torch.equal(windows[row, 0], torch.from_numpy(expected))
    assert sections.tolist() == [1, 0, 0]


def test_window_bank_batches_are_a_random_order_without_repetition(toy_data: Path) -> None:
    """An epoch shows no window twice, in an order that differs from epoch to epoch."""
    bank = WindowBank(load_training_data(toy_data, RECIPE), CPU)

    generator = torch.Generator().manual_seed(0)
    first, second = (torch.stack(list(bank.batches(32, generator))) for _ in range(2))

    assert first.shape == (8, 32)
    assert len(set(first.flatten().tolist())) == 256
    assert not torch.equal(first, second)


def _assert_same_state(run: Path, other: Path) -> None:
    """Compare weights and optimiser, bit for bit."""
    state, expected = _state(run), _state(other)
    assert state["model"].keys() == expected["model"].keys()
    for name, value in state["model"].items():
        assert torch.equal(value, expected["model"][name]), name
    for key, moments in state["optimiser"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, expected["optimiser"]["state"][key][name])


def _state(run: Path) -> dict[str, Any]:
    return Run(run).read_checkpoint()


def _weights(run: Path, name: str) -> torch.Tensor:
    weights: torch.Tensor = _state(run)["model"][name]
    return weights
