"""A trained network as a model file for the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import onnx
import torch

from edgeasd.detect.metadata import (
    METADATA_KEY,
    DistanceDocument,
    Matrix,
    ModelDocument,
    ScoringDocument,
    SectionDocument,
)
from edgeasd.detect.model import EMBEDDING, INPUT, LOGITS, Model, load_model
from edgeasd.detect.scoring import NetworkOutput, Scoring, clip_score
from edgeasd.errors import EdgeasdError
from edgeasd.stream import Float32Array
from train.model import Network, SectionNet
from train.normal import NormalSound
from train.recipe import Recipe
from train.run import FittedRun, load_run, write_atomically
from train.scoring import (
    ClipOutputs,
    RunWindows,
    held_out_scores,
    learn_normal_of,
    make_scorings,
    run_clips,
    runner,
)
from train.threshold import Threshold, choose_thresholds

TOLERANCE = 1e-4
"""Largest difference between a clip's scores before and after export."""

# What ONNX Runtime 1.17 reads, the oldest that the daemon runs on.
_OPSET = 18
_IR_VERSION = 9


@dataclass(frozen=True, slots=True)
class Export:
    """A model file that was made.

    Attributes:
        path: Where it is.
        n_bytes: Its size.
        sha256: Its digest.
        difference: Largest difference between torch and ONNX Runtime in a held-out clip's score.
        n_clips: Clips compared.
    """

    path: Path
    n_bytes: int
    sha256: str
    difference: float
    n_clips: int


def export(
    run_folder: Path,
    path: Path,
    *,
    data_folder: Path | None = None,
    scoring: str | None = None,
    model_id: str = "",
    version: str = "",
) -> Export:
    """Write the model of a run to *path*.

    Thresholds come from the scores of the held-out clips by the exported network itself, run as
    the daemon runs it.  The file replaces one at *path* only once it has been loaded again.

    Args:
        run_folder: Of the run.
        path: Of the model file.
        data_folder: Where the training data is now, if not where it was.
        scoring: Method in place of the recipe's, which training does not depend on.
        model_id: Name of the model; empty for machine type and recipe.
        version: For people; empty for today's date.

    Raises:
        EdgeasdError: If there is no such run, or torch and ONNX Runtime do not agree.
    """
    fitted = load_run(run_folder, data_folder)
    fitted = replace(fitted, recipe=fitted.recipe.override(scoring=scoring))
    recipe, sections, held_out = fitted.recipe, fitted.data.sections, fitted.data.held_out
    run = runner(fitted.network)
    method = recipe.scoring.method
    reference_outputs = run_clips(run, fitted.data.fitted, "references")
    normal = learn_normal_of(method, reference_outputs, sections, recipe)
    proto = to_onnx(fitted.network, fitted.recipe)
    document = _draft_document(fitted, normal, model_id, version)
    model = Model(with_document(proto, document), str(path))
    scorings = {name: model.scoring(index) for index, name in enumerate(sections)}
    outputs = run_clips(_run_model(model), held_out, "thresholds")
    difference = _check_parity(
        make_scorings(method, sections, normal, recipe),
        scorings,
        run_clips(run, held_out, "parity"),
        outputs,
    )
    thresholds = choose_thresholds(
        held_out_scores(outputs, scorings, recipe), recipe.scoring.tail_probability
    )
    document = _with_thresholds(document, thresholds, difference)
    written = _write(with_document(proto, document), path)
    return Export(path, path.stat().st_size, written.sha256, difference, len(fitted.data.held_out))


def to_onnx(network: Network, recipe: Recipe) -> onnx.ModelProto:
    """Return *network* as a graph with the names that the daemon knows, without a document."""
    # Two windows: of one, the exporter would take the batch size for a constant.
    example = torch.zeros(2, 1, recipe.window.n_frames, recipe.features.n_mels)
    program = torch.onnx.export(
        network,
        (example,),
        input_names=[INPUT],
        output_names=[EMBEDDING, LOGITS] if isinstance(network, SectionNet) else [EMBEDDING],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    proto.ir_version = _IR_VERSION
    # Of no use to the daemon, and full of paths of the computer that trained.
    proto.ClearField("doc_string")
    for entry in (proto.graph, *proto.graph.node, *proto.graph.value_info):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    return proto


def _draft_document(
    fitted: FittedRun, normal: NormalSound | None, model_id: str, version: str
) -> ModelDocument:
    """Return the document of the model file, its thresholds yet to be set."""
    recipe, info = fitted.recipe, fitted.info
    created = datetime.now(timezone.utc)
    method = recipe.scoring
    references = [None] * len(info.sections) if normal is None else normal.references
    return ModelDocument(
        id=model_id or f"{info.machine_type}-{recipe.name}",
        version=version or f"{created:%Y.%m.%d}",
        created=created.isoformat(timespec="seconds"),
        machine_type=info.machine_type,
        features=recipe.features,
        window=recipe.window,
        scoring=ScoringDocument(method.method, recipe.nearest.n_neighbours, method.clip_windows),
        sections=tuple(
            SectionDocument(name, 0.0, 0.0, None if each is None else Matrix.of(each))
            for name, each in zip(info.sections, references, strict=True)
        ),
        distances=tuple(
            DistanceDocument(weight, Matrix.of(whitening))
            for weight, whitening in ([] if normal is None else normal.distances)
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
            "tail_probability": method.tail_probability,
            "trained": info.created,
            "commit": info.commit,
            "versions": dict(info.versions),
        },
    )


def _with_thresholds(
    document: ModelDocument, thresholds: Sequence[Threshold], difference: float
) -> ModelDocument:
    sections = tuple(
        replace(section, threshold=one.threshold, clear_threshold=one.clear_threshold)
        for section, one in zip(document.sections, thresholds, strict=True)
    )
    training = {**document.training, "export_difference": difference}
    return replace(document, sections=sections, training=training)


def with_document(proto: onnx.ModelProto, document: ModelDocument) -> bytes:
    """Return the bytes of a model file."""
    onnx.helper.set_model_props(proto, {METADATA_KEY: document.to_json()})
    content: bytes = proto.SerializeToString()
    return content


def _run_model(model: Model) -> RunWindows:
    def run(windows: Float32Array) -> list[NetworkOutput]:
        return [model.run(window) for window in windows]

    return run


def _check_parity(
    before: Mapping[str, Scoring],
    after: Mapping[str, Scoring],
    torch_outputs: Sequence[ClipOutputs],
    model_outputs: Sequence[ClipOutputs],
) -> float:
    """Return the largest difference between clips' scores before and after export.

    Raises:
        EdgeasdError: If it is more than the tolerance.
    """
    largest = 0.0
    for expected, actual in zip(torch_outputs, model_outputs, strict=True):
        section = expected.clip.section
        difference = abs(
            clip_score(before[section], expected.outputs)
            - clip_score(after[section], actual.outputs)
        )
        # Written so that a difference that is no number is refused as well.
        if not difference <= TOLERANCE:
            raise EdgeasdError(
                f"score difference={difference:.3g} between torch and ONNX Runtime must be at "
                f"most {TOLERANCE:g} (clip {expected.clip.path.name}); the model is not written"
            )
        largest = max(largest, difference)
    return largest


def _write(content: bytes, path: Path) -> Model:
    """Write the model file, load it once more, and only then let it replace what is there."""
    draft = path.with_name(path.name + ".new")
    write_atomically(draft, content)
    try:
        model = load_model(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return model
