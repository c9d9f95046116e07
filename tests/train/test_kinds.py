"""Recipes of every kind of network, from fit to the daemon's scores."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeasd.baseline.covariance import MahalanobisRecipe
from edgeasd.common.errors import EdgeasdError
from edgeasd.detect.windows import WindowSpec
from tests.detect.models import load_model
from tests.train.toy import RECIPE, labelled_clips, pipeline_score
from train.evaluation.evaluate import evaluate
from train.export.export import TOLERANCE, export
from train.recipe.recipe import Recipe
from train.recipe.tables import (
    AugmentationRecipe,
    LossRecipe,
    NetworkRecipe,
    ScoringRecipe,
)
from train.runs.fit import fit
from train.runs.run import Run, load_run

CPU = torch.device("cpu")

# A clip of 89 frames has 11 windows of 8 that do not overlap, and 13 of 64 every 2.
MAHALANOBIS = Recipe(
    name="toy-mahalanobis",
    scoring=ScoringRecipe("mahalanobis", clip_windows=11, holdout=0.0),
    window=WindowSpec(n_frames=8, hop_frames=8, median_frames=1),
    network=NetworkRecipe("statistics", pooling="average", standardise=False),
)
DIAGONAL = Recipe(
    name="toy-diagonal",
    scoring=ScoringRecipe("mahalanobis", clip_windows=13, holdout=0.0),
    window=RECIPE.window,
    network=NetworkRecipe("statistics", pooling="average_std"),
    mahalanobis=MahalanobisRecipe("clips", "diagonal", domain_scatter=False),
)
NEAREST = replace(DIAGONAL, name="toy-nearest", scoring=replace(RECIPE.scoring, holdout=0.0))
AUTOENCODER = replace(
    RECIPE,
    name="toy-autoencoder",
    scoring=ScoringRecipe("reconstruction", clip_windows=13),
    network=NetworkRecipe("autoencoder", pooling=""),
    loss=LossRecipe(classification=0.0, contrastive=0.0),
)
EFFICIENTNET = replace(
    RECIPE,
    name="toy-efficientnet",
    network=NetworkRecipe("efficientnet_b0"),
    augmentation=AugmentationRecipe(0.2, 8, 4),
    optimiser=replace(RECIPE.optimiser, batch_size=64),
)


@pytest.mark.parametrize(
    "recipe", [MAHALANOBIS, DIAGONAL, NEAREST, AUTOENCODER], ids=lambda recipe: recipe.name
)
def test_daemon_gives_the_scores_of_the_evaluation(
    recipe: Recipe, toy_data: Path, tmp_path: Path
) -> None:
    """A run evaluates by its own method only, and its model file scores each clip the same."""
    fit(recipe, toy_data, tmp_path / "run", CPU)
    (evaluation,) = _of_method(recipe, tmp_path / "run")
    made = export(tmp_path / "run", tmp_path / "model.onnx")

    model = load_model(tmp_path / "model.onnx")
    daemon = [pipeline_score(model, path) for path in labelled_clips(toy_data)]

    assert daemon == pytest.approx(evaluation, abs=TOLERANCE)
    assert np.ptp(daemon) > 100.0 * TOLERANCE  # else the comparison would say nothing
    assert made.difference <= TOLERANCE
    assert model.document.scoring.method == recipe.scoring.method
    assert bool(model.document.distances) == (recipe.scoring.method == "mahalanobis")


def test_fit_of_statistics_trains_nothing(
    toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run holds mean and spread of the mel bins; the same command again is no error."""
    with caplog.at_level(logging.INFO, "train"):
        fit(DIAGONAL, toy_data, tmp_path, CPU)
    messages = list(caplog.messages)
    fit(DIAGONAL, toy_data, tmp_path, CPU)

    run = load_run(tmp_path, None)
    rows = np.concatenate([one.rows for one in run.data.fitted]).astype(np.float64)
    assert run.history == []
    assert not Run(tmp_path).log.exists()
    assert run.network.standardise.mean.numpy() == pytest.approx(rows.mean(axis=0), rel=1e-5)
    assert run.network.standardise.std.numpy() == pytest.approx(rows.std(axis=0, ddof=1), rel=1e-5)
    assert messages == [
        f"{tmp_path}: 24 clips; recipe toy-diagonal takes statistics, nothing to train"
    ]


def test_fit_of_statistics_takes_one_section(toy_data: Path, tmp_path: Path) -> None:
    """Where nothing learns to tell sections apart, one machine alone is enough."""
    train = tmp_path / "toy_fan" / "train"
    train.mkdir(parents=True)
    for path in (toy_data / "train").glob("section_00_*"):
        (train / path.name).symlink_to(path)

    fit(MAHALANOBIS, tmp_path / "toy_fan", tmp_path / "run", CPU)
    export(tmp_path / "run", tmp_path / "model.onnx")

    assert [one.name for one in load_model(tmp_path / "model.onnx").document.sections] == ["00"]


def test_fit_of_autoencoder_lowers_its_error(toy_data: Path, tmp_path: Path) -> None:
    """The autoencoder alone trains on its reconstruction, and on nothing else."""
    fit(AUTOENCODER.override(epochs=2), toy_data, tmp_path, CPU)

    first, second = Run(tmp_path).read_checkpoint()["history"]
    assert first["loss"] == first["reconstruction"]
    assert not {"classification", "contrastive"} & first.keys()
    assert second["loss"] < first["loss"]


def test_fit_of_efficientnet_trains_an_epoch_of_the_challenge_entry(
    toy_data: Path, tmp_path: Path
) -> None:
    """EfficientNet-B0 learns beside the autoencoder from shifted, masked and mixed windows."""
    fit(EFFICIENTNET, toy_data, tmp_path, CPU)

    run = load_run(tmp_path, None)
    (line,) = Run(tmp_path).read_checkpoint()["history"]
    assert run.history == [line]
    assert {"reconstruction", "classification", "contrastive"} <= line.keys()
    with torch.inference_mode():
        embedding, logits = run.network(torch.full((2, 1, 64, 128), -60.0))
    assert (embedding.shape, logits.shape) == ((2, 1280), (2, 2))
    assert embedding.isfinite().all()


def test_export_by_a_method_of_another_network_is_refused(toy_data: Path, tmp_path: Path) -> None:
    """What a network cannot be scored by is told before anything is computed."""
    fit(MAHALANOBIS, toy_data, tmp_path / "run", CPU)

    with pytest.raises(EdgeasdError, match=r"^recipe toy-mahalanobis: network\.kind='statistics'"):
        export(tmp_path / "run", tmp_path / "model.onnx", scoring="log_odds")

    assert not (tmp_path / "model.onnx").exists()


def _of_method(recipe: Recipe, run: Path) -> list[list[float]]:
    """Return the scores of each evaluation, all of the recipe's method."""
    evaluations = evaluate(run, None)
    assert {one.method for one in evaluations} == {recipe.scoring.method}
    return [one.scores for one in evaluations]
