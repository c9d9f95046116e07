"""Export of a trained network as a model file for the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeasd.baseline.covariance import NormalSound
from edgeasd.common.errors import EdgeasdError
from edgeasd.common.types import Float32Array
from edgeasd.detect.model.document import ModelDocument, ScoringDocument, SectionDocument
from edgeasd.detect.model.matrix import Matrix
from edgeasd.detect.model.network import Model
from edgeasd.detect.scoring import NetworkOutput, clip_score
from train.data.clips import Clip
from train.data.datasets import read_clips
from train.data.windows import spectrum_of_clips, windows_of_clips
from train.export.gate import Comparison, compare, time_windows
from train.export.graph import quantise, to_onnx, with_document
from train.runs.run import FittedRun, atomically, load_run
from train.scoring.scoring import (
    RunWindows,
    learn_normal_of,
    make_scorings,
    normal_scores,
    run_clips,
    runner,
)
from train.scoring.threshold import Threshold, choose_thresholds

TOLERANCE = 1e-4
"""Largest difference between a clip's scores before and after export, relative above 1."""
_N_CALIBRATION = 256
"""Windows from which the ranges of int8 are taken."""


@dataclass(frozen=True, slots=True)
class Export:
    """A model file that was made.

    Attributes:
        path: Path of the model file.
        n_bytes: Size of the file.
        sha256: Digest of the file.
        difference: Largest difference between torch and ONNX Runtime in a clip's score, in float32,
            relative above 1.
        n_clips: Number of clips that were compared.
        int8: How int8 compares with float32; `None` if the model is in float32.
    """

    path: Path
    n_bytes: int
    sha256: str
    difference: float
    n_clips: int
    int8: Comparison | None


def export(
    run_folder: Path,
    path: Path,
    *,
    data_folder: Path | None = None,
    scoring: str | None = None,
    model_id: str = "",
    version: str = "",
    int8: bool = False,
) -> Export:
    """Write the model of a run to *path*.

    References and thresholds come from the exported network itself, run as the daemon runs it.  A
    file that is already at *path* is replaced only once the new one has been loaded.

    Args:
        run_folder: Folder of the run.
        path: Path of the model file.
        data_folder: Folder of the training data, if it was moved since training.
        scoring: Scoring method that replaces the recipe's; training does not depend on it.
        model_id: Name of the model; empty takes machine type and recipe.
        version: Version of the model, for people; empty takes today's date.
        int8: Whether to write convolutions in int8, if that is as good and faster.

    Raises:
        EdgeasdError: If there is no such run, torch and ONNX Runtime do not agree, or int8 is
            worse or no faster.
    """
    fitted = load_run(run_folder, data_folder)
    fitted = replace(fitted, recipe=fitted.recipe.override(scoring=scoring))
    proto = to_onnx(fitted.network, fitted.recipe)
    before = _learn(fitted, runner(fitted.network), "torch")
    document = _with_learned(_draft_document(fitted, model_id, version), before)
    exact = _learn(fitted, _run_model(Model(with_document(proto, document), str(path))), "graph")
    parity = fitted.data.held_out or fitted.data.fitted
    difference = _check_parity(before, exact, [one.clip for one in parity])
    document = _with_training(_with_learned(document, exact), export_difference=difference)
    comparison = None
    if int8:
        proto, document, comparison = _quantise(fitted, proto, document, path)
    written = _write(with_document(proto, document), path)
    return Export(path, path.stat().st_size, written.sha256, difference, len(parity), comparison)


def _quantise(
    fitted: FittedRun, proto: onnx.ModelProto, document: ModelDocument, path: Path
) -> tuple[onnx.ModelProto, ModelDocument, Comparison]:
    """Return graph and document in int8.

    Raises:
        EdgeasdError: If int8 is worse or no faster.
    """
    windows = _calibration_windows(fitted)
    exact = Model(with_document(proto, document), str(path))
    small_proto = quantise(proto, windows)
    draft = Model(with_document(small_proto, document), str(path))
    document = _with_learned(document, _learn(fitted, _run_model(draft), "int8"))
    models = {"float32": exact, "int8": Model(with_document(small_proto, document), str(path))}
    comparison = _compare(fitted, models, windows)
    comparison.check()
    return small_proto, _with_training(document, int8=str(comparison)), comparison


def _calibration_windows(fitted: FittedRun) -> Float32Array:
    """Return a seeded choice of training windows, shape ``(n_windows, T, M)``."""
    places = [(one, row) for one in fitted.data.fitted for row in range(len(one.starts))]
    order = np.random.default_rng(fitted.recipe.seed).permutation(len(places))[:_N_CALIBRATION]
    chosen = (places[index] for index in order)
    return np.stack([one.rows[one.starts[row] :][: one.n_frames] for one, row in chosen])


def _draft_document(fitted: FittedRun, model_id: str, version: str) -> ModelDocument:
    """Return the document of the model file, without references and thresholds."""
    recipe, info = fitted.recipe, fitted.info
    clips = [one.clip for one in fitted.data.fitted]
    spectra = {
        name: spectrum_of_clips(
            [clip for clip in clips if clip.section == name], recipe.features, recipe.window
        )
        for name in info.sections
    }
    created = datetime.now(timezone.utc)
    return ModelDocument(
        id=model_id or f"{info.machine_type}-{recipe.name}",
        version=version or f"{created:%Y.%m.%d}",
        created=created.isoformat(timespec="seconds"),
        machine_type=info.machine_type,
        features=recipe.features,
        window=recipe.window,
        scoring=ScoringDocument(
            recipe.scoring.method, recipe.nearest.n_neighbours, recipe.scoring.clip_windows
        ),
        sections=tuple(
            SectionDocument(name, 0.0, 0.0, spectrum=Matrix(spectrum.rows()))
            for name, spectrum in spectra.items()
        ),
        training={
            "recipe": info.recipe,
            "recipe_digest": info.recipe_digest,
            "data_digest": info.data_digest,
            "seed": info.seed,
            "epochs": len(fitted.history),
            "n_clips": info.n_clips,
            "n_windows": info.n_windows,
            "n_held_out": len(info.held_out),
            "tail_probability": recipe.scoring.tail_probability,
            "trained": info.created,
            "commit": info.commit,
            "versions": dict(info.versions),
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """What was learned from normal sound with the network in one form."""

    normal: NormalSound | None
    thresholds: list[Threshold]
    scores: dict[Clip, float]


def _learn(fitted: FittedRun, run: RunWindows, title: str) -> _Learned:
    """Learn references and thresholds from the training clips, run by *run*."""
    recipe, sections = fitted.recipe, fitted.data.sections
    method = recipe.scoring.method
    outputs = run_clips(run, fitted.data.fitted, f"references, {title}")
    held_out = run_clips(run, fitted.data.held_out, f"thresholds, {title}")
    normal = learn_normal_of(method, outputs, sections, recipe)
    scorings = make_scorings(method, sections, normal, recipe)
    scores = normal_scores(method, outputs, held_out, scorings, recipe)
    return _Learned(
        normal,
        choose_thresholds(scores, recipe.scoring.tail_probability),
        {
            one.clip: clip_score(scorings[one.clip.section], one.outputs)
            for one in (*outputs, *held_out)
        },
    )


def _with_learned(document: ModelDocument, learned: _Learned) -> ModelDocument:
    """Return *document* with the references, thresholds and distances *learned*."""
    normal = learned.normal
    references = [None] * len(document.sections) if normal is None else normal.references
    return replace(
        document,
        sections=tuple(
            replace(
                section,
                threshold=one.threshold,
                clear_threshold=one.clear_threshold,
                references=each,
            )
            for section, one, each in zip(
                document.sections, learned.thresholds, references, strict=True
            )
        ),
        distances=() if normal is None else normal.distances,
    )


def _with_training(document: ModelDocument, **facts: Any) -> ModelDocument:
    return replace(document, training={**document.training, **facts})


def _check_parity(before: _Learned, after: _Learned, clips: Sequence[Clip]) -> float:
    """Return the largest difference between clips' scores before and after export.

    Raises:
        EdgeasdError: If it exceeds the tolerance.
    """
    largest = 0.0
    for clip in clips:
        expected, actual = before.scores[clip], after.scores[clip]
        difference = abs(expected - actual) / max(abs(expected), 1.0)
        # Not "difference > TOLERANCE", which would accept a difference that is not a number.
        if not difference <= TOLERANCE:
            raise EdgeasdError(
                f"score difference={difference:.3g} between torch and ONNX Runtime must be at "
                f"most {TOLERANCE:g} (clip {clip.path.name}); the model is not written"
            )
        largest = max(largest, difference)
    return largest


def _compare(fitted: FittedRun, models: Mapping[str, Model], windows: Float32Array) -> Comparison:
    """Compare int8 with float32 on the test clips, or on the training clips if there are none.

    Each form is scored by the references that its own graph gave.
    """
    tests = [clip for clip in read_clips(fitted.folder).clips if clip.split == "test"]
    tests = [clip for clip in tests if clip.section in fitted.data.sections]
    recipe = fitted.recipe
    clips = windows_of_clips(tests, recipe.features, recipe.window) or fitted.data.fitted
    scores = {
        name: [
            clip_score(model.scoring(model.section_index(one.clip.section)), one.outputs)
            for one in run_clips(_run_model(model), clips, f"clips, {name}")
        ]
        for name, model in models.items()
    }
    seconds = time_windows(models, windows)
    return compare(
        [one.clip for one in clips],
        scores["float32"],
        scores["int8"],
        seconds["float32"] / seconds["int8"],
    )


def _run_model(model: Model) -> RunWindows:
    def run(windows: Float32Array) -> list[NetworkOutput]:
        return [model.run(window) for window in windows]

    return run


def _write(content: bytes, path: Path) -> Model:
    """Write the model file, and let it replace what is at *path* only once it has been loaded."""
    with atomically(path) as file:
        file.write(content)
        file.seek(0)
        return Model(file.read(), str(path))
