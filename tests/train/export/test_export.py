from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import train.export.export
from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.common.errors import EdgeasdError
from edgeasd.detect.features import log_mel
from edgeasd.detect.model.network import Model
from tests.detect.models import load_model
from tests.train.toy import RECIPE, labelled_clips, pipeline_score, run_trainer
from train.evaluation.evaluate import evaluate
from train.export.export import TOLERANCE, export
from train.runs.run import load_run
from train.scoring.scoring import runner
from train.scoring.threshold import choose_thresholds


@pytest.fixture(scope="module")
def model_path(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy run's model file, made from the command line."""
    path = tmp_path_factory.mktemp("models") / "toy.onnx"
    done = run_trainer("export", toy_run, "--out", path, "--id", "press-3", "--version", "1.2")
    assert done.stdout.startswith(f"{path}: "), done.stderr
    assert "differ by at most" in done.stdout
    return path


@pytest.fixture(scope="module")
def model(model_path: Path) -> Model:
    """The toy run's model as the daemon loads it."""
    return load_model(model_path)


def test_export_scores_of_the_daemon_are_those_of_the_evaluation(
    model: Model, toy_run: Path, toy_data: Path
) -> None:
    """The pipeline over the model file gives each test clip the score that evaluation gave it."""
    evaluation = evaluate(toy_run, None)[0]

    daemon = [pipeline_score(model, path) for path in labelled_clips(toy_data)]

    # Ratios of distances near 1e-7, all that this network tells apart after one epoch: the rounding
    # of its float32 embeddings shows.  Log-odds below are held to the tolerance.
    assert daemon == pytest.approx(evaluation.scores, rel=1e-3, abs=TOLERANCE)
    assert np.ptp(daemon) > 100.0 * TOLERANCE  # else the comparison would say nothing


def test_export_by_the_other_method_scores_as_its_evaluation(
    toy_run: Path, toy_data: Path, tmp_path: Path
) -> None:
    """A run exported for log-odds, without references, scores as evaluation by log-odds did."""
    export(toy_run, tmp_path / "model.onnx", scoring="log_odds")
    model = load_model(tmp_path / "model.onnx")

    daemon = [pipeline_score(model, path) for path in labelled_clips(toy_data)]

    assert daemon == pytest.approx(evaluate(toy_run, None)[1].scores, abs=TOLERANCE)
    assert model.document.scoring.method == "log_odds"
    assert all(section.references is None for section in model.document.sections)


def test_export_says_how_loud_normal_sound_is(model: Model, toy_run: Path) -> None:
    """Each section's spectrum is that of its training clips, before the median filter."""
    fitted = load_run(toy_run, None)
    clips = [one.clip for one in fitted.data.fitted if one.clip.section == "01"]
    frames = [log_mel(read_clip(clip.path), RECIPE.features) for clip in clips]

    spectrum = model.normal_spectrum(1)

    assert spectrum is not None
    expected = np.mean([one.mean(axis=0) for one in frames], axis=0)
    np.testing.assert_allclose(spectrum.level_db, expected, atol=1e-3)


def test_export_document_says_where_the_model_comes_from(model: Model, toy_run: Path) -> None:
    """The model file carries geometry, sections, provenance and what was measured at export."""
    document, run = model.document, load_run(toy_run, None)

    assert (document.id, document.version, document.machine_type) == ("press-3", "1.2", "toy_fan")
    assert (document.features, document.window) == (RECIPE.features, RECIPE.window)
    assert [section.name for section in document.sections] == ["00", "01"]
    training = document.training
    assert training["recipe_digest"] == RECIPE.digest
    assert training["data_digest"] == run.data.digest
    assert (training["seed"], training["epochs"], training["n_clips"]) == (7, 1, 20)
    assert {"edgeasd", "torch", "onnxruntime"} <= set(training["versions"])
    assert 0.0 <= training["export_difference"] <= TOLERANCE


def test_export_references_are_target_clips_and_centroids(model: Model) -> None:
    """Each section keeps its target clips, two, and as many centroids as the recipe says, four."""
    for section in model.document.sections:
        assert section.references is not None
        assert section.references.shape == (2 + 4, 1280)


def test_export_thresholds_come_from_held_out_clips_through_the_model_file(
    model: Model, toy_run: Path
) -> None:
    """The thresholds are those of the held-out clips' scores as the daemon makes them."""
    held_out = load_run(toy_run, None).data.held_out
    scores = [
        [pipeline_score(model, one.clip.path) for one in held_out if one.clip.section == name]
        for name in ("00", "01")
    ]

    expected = choose_thresholds(scores, RECIPE.scoring.tail_probability)
    for section, one in zip(model.document.sections, expected, strict=True):
        assert section.threshold == pytest.approx(one.threshold)
        assert section.clear_threshold == pytest.approx(one.clear_threshold)


def test_export_network_takes_any_batch_of_windows_in_db(model: Model, toy_run: Path) -> None:
    """A window's outputs are those of the network in torch, from dB and without normalisation."""
    run = load_run(toy_run, None)
    window = run.data.held_out[0].windows()[0]
    (expected,) = runner(run.network)(window[None])

    output = model.run(window)

    assert np.allclose(output.embedding, expected.embedding, atol=1e-5)


def test_export_file_tells_nothing_of_the_computer_that_made_it(model_path: Path) -> None:
    """The exporter's stack traces are taken out of the graph."""
    content = model_path.read_bytes()

    assert str(Path(train.__file__).parents[1]).encode() not in content
    assert b"site-packages" not in content
    onnx.checker.check_model(onnx.load_from_string(content))


def test_export_refuses_a_network_that_changed_on_the_way(
    model_path: Path, toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If torch and ONNX Runtime disagree, figures are told and the file that is there stays."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    changed = onnx.load(model_path)
    for initializer in changed.graph.initializer:
        if initializer.name == "standardise.mean":
            shifted = onnx.numpy_helper.to_array(initializer) + np.float32(1.0)
            initializer.CopyFrom(onnx.numpy_helper.from_array(shifted, initializer.name))
    monkeypatch.setattr(train.export.export, "to_onnx", lambda *_: changed)

    with pytest.raises(
        EdgeasdError,
        match=r"^score difference=\S+ between torch and ONNX Runtime must be at most 0\.0001 "
        r"\(clip section_\S+\.wav\); the model is not written$",
    ):
        export(toy_run, path)

    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"before"
