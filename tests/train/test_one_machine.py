"""One section: with recordings of other machines, without them, and with very few clips."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch

from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.capture.simulator.rotating_machine import SAMPLE_RATE, RotatingMachine
from edgeasd.common.errors import EdgeasdError
from edgeasd.common.types import AudioBlock
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Pipeline
from tests.detect.models import load_model
from tests.train.toy import CHECKOUT, CNN_RECIPE
from train.data.bank import WindowBank
from train.data.split import load_training_data
from train.evaluation.evaluate import evaluate
from train.export.export import TOLERANCE, export
from train.networks.model import SectionNet
from train.recipe.recipe import load_recipe
from train.runs.fit import fit
from train.runs.run import Run, load_run

CPU = torch.device("cpu")
EDGE = load_recipe(CHECKOUT / "train" / "recipes" / "edge.toml")
CLIP_S = 10


@pytest.fixture(scope="module")
def one_section(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of section 00 of the toy alone."""
    folder = tmp_path_factory.mktemp("one") / "toy_fan"
    for path in toy_data.glob("*/section_00_*"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def background(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of another machine, of any name and at any depth."""
    folder = tmp_path_factory.mktemp("background")
    for number, path in enumerate(sorted((toy_data / "train").glob("section_01_*"))):
        place = folder / ("hall" if number % 2 else "yard/night")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.wav").symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def run_folder(
    one_section: Path, background: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A classifier that learned to tell the machine from the background."""
    folder = tmp_path_factory.mktemp("runs") / "background"
    fit(CNN_RECIPE, one_section, folder, CPU, background)
    return folder


@pytest.fixture(scope="module")
def few_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five normal clips of 10 s to learn from, and two normal and two anomalous ones for tests."""
    folder = tmp_path_factory.mktemp("few") / "fan"
    kinds = (("train", "train", "normal", 5), ("source_test", "test", "normal", 2),
             ("source_test", "test", "anomaly", 2))  # fmt: skip
    seed = 0
    for place, split, label, n_clips in kinds:
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(n_clips):
            machine = RotatingMachine(seed, 0)
            samples = machine.process(CLIP_S * SAMPLE_RATE, faulty=label == "anomaly")
            name = f"section_00_source_{split}_{label}_{number:04d}.wav"
            soundfile.write(folder / place / name, samples, SAMPLE_RATE, subtype="PCM_16")
            seed += 1
    return folder


def test_background_is_a_second_class_in_training(
    run_folder: Path, one_section: Path, background: Path
) -> None:
    """Its windows are labelled after the last section; none is a reference or held out."""
    data = load_training_data(one_section, CNN_RECIPE, background)
    bank = WindowBank(data, CPU)
    network = load_run(run_folder, None).network

    _, sections = bank.fetch(torch.arange(len(bank)))

    assert data.sections == ["00"]
    assert (len(data.fitted), len(data.held_out), len(data.background)) == (10, 2, 12)
    n_windows = len(data.fitted[0].starts)
    assert sections.tolist() == [0] * 10 * n_windows + [1] * 12 * n_windows
    assert isinstance(network, SectionNet)
    assert network.classifier.out_features == 2
    (line,) = Run(run_folder).read_checkpoint()["history"]
    assert 0.0 < line["classification"] < 1.0
    assert Run(run_folder).read_info().background == str(background.resolve())


def test_background_model_is_exported_without_its_logit_and_scored_by_distance(
    run_folder: Path, one_section: Path, tmp_path: Path
) -> None:
    """The daemon gives each test clip the score that evaluation gave it, by nearest."""
    evaluations = evaluate(run_folder, None)
    made = export(run_folder, tmp_path / "model.onnx")

    model = load_model(tmp_path / "model.onnx")
    logits = onnx.load(tmp_path / "model.onnx").graph.output[1]
    paths = sorted(one_section.glob("source_test/*")) + sorted(one_section.glob("target_test/*"))
    daemon = [_pipeline_score(model, path) for path in paths]

    assert [one.method for one in evaluations] == ["nearest", "mahalanobis"]
    assert [section.name for section in model.document.sections] == ["00"]
    assert logits.type.tensor_type.shape.dim[1].dim_value == 1
    assert made.difference <= TOLERANCE
    # Ratios of distances near 1e-7: the rounding of float32 embeddings shows.
    assert daemon == pytest.approx(evaluations[0].scores, rel=1e-3)


def test_background_other_than_in_training_is_another_run(
    run_folder: Path, one_section: Path
) -> None:
    """A run without its background is not that run."""
    with pytest.raises(EdgeasdError) as error:
        fit(CNN_RECIPE.override(epochs=2), one_section, run_folder, CPU, one_section / "train")

    assert str(error.value) == (
        f"{run_folder}: holds a run of recipe toy-cnn with another data; "
        "choose another folder with --out"
    )


def test_background_without_recordings_says_so(one_section: Path, tmp_path: Path) -> None:
    """An empty folder is not silently no background."""
    with pytest.raises(EdgeasdError) as error:
        load_training_data(one_section, CNN_RECIPE, tmp_path)

    assert str(error.value) == (
        f"{tmp_path}: holds no WAV or FLAC file; --background needs recordings"
    )


def test_background_for_a_recipe_that_makes_no_use_of_it_is_refused(
    one_section: Path, background: Path
) -> None:
    """Recipe edge learns to tell nothing apart; whoever gives it recordings is told."""
    with pytest.raises(EdgeasdError) as error:
        load_training_data(one_section, EDGE, background)

    assert str(error.value) == (
        "recipe edge cannot use --background, because it does not learn to distinguish the machine "
        "from anything; leave it out"
    )


@pytest.mark.parametrize("with_background", [False, True])
def test_log_odds_of_one_section_is_refused(
    one_section: Path, background: Path, *, with_background: bool
) -> None:
    """A softmax over one class says nothing, with background or without."""
    recipe = CNN_RECIPE.override(scoring="log_odds")

    with pytest.raises(EdgeasdError) as error:
        load_training_data(one_section, recipe, background if with_background else None)

    assert str(error.value) == (
        "sections=00 must be at least two for scoring.method='log_odds', because a softmax over "
        "one class is always 1; use recipe edge, or set scoring.method to 'nearest' and give "
        "recordings of other machines with --background"
    )


def test_five_clips_make_a_model_by_recipe_edge(
    few_clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fit, evaluation and export work; the log tells what is made of so few; faults stand out."""
    with caplog.at_level(logging.INFO, "train"):
        fit(EDGE, few_clips, tmp_path / "run", CPU)
        messages = list(caplog.messages)
    (evaluation,) = evaluate(tmp_path / "run", None)
    export(tmp_path / "run", tmp_path / "model.onnx")

    model = load_model(tmp_path / "model.onnx")
    daemon = [
        _pipeline_score(model, path) for path in sorted((few_clips / "source_test").iterdir())
    ]

    assert messages == [
        "few clips (00 source 5): the variation of their sound is estimated from pieces of 8 "
        "windows of each clip",
        f"{tmp_path / 'run'}: 5 clips; recipe edge takes statistics, nothing to train",
    ]
    assert daemon == pytest.approx(evaluation.scores, rel=TOLERANCE)
    (section,) = model.document.sections
    assert np.isfinite([section.threshold, section.clear_threshold]).all()
    assert [one.weight for one in model.document.distances] == [1.0, 0.1]
    assert evaluation.measures[0].auc == 1.0


def _pipeline_score(model: Model, path: Path) -> float:
    pipeline = Pipeline(model, 0, AlarmSpec(1e9, 1e9))
    (detection,) = pipeline.process(AudioBlock(read_clip(path), 0))
    return detection.score.value
