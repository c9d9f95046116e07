"""Small but real model files for tests: the whole path from log-mel to score, in a tiny graph.

The network standardises the window, takes mean and maximum over time, and has one layer to the
embedding and one to the logits.  `TinyNetwork.run` says the same in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeasd.common.types import Float32Array
from edgeasd.detect.features import FeatureSpec, log_mel
from edgeasd.detect.median import MedianFilter
from edgeasd.detect.model.document import (
    BY_DISTANCE,
    METADATA_KEY,
    DistanceDocument,
    ModelDocument,
    ScoringDocument,
    SectionDocument,
)
from edgeasd.detect.model.matrix import Matrix
from edgeasd.detect.model.network import EMBEDDING, INPUT, LOGITS, Model
from edgeasd.detect.scoring import NetworkOutput, clip_score
from edgeasd.detect.windows import WindowSpec, slice_windows

OPSET = 18
IR_VERSION = 9  # what the oldest ONNX Runtime in pyproject.toml reads

_contents: dict[tuple[str, int, int] | None, bytes] = {}
"""The models made so far, most of which are made again and again."""

# Window values are standardised with these, dB: about right for sound at -20 to -40 dBFS.
CENTRE_DB = np.float32(-30.0)
SCALE_DB = np.float32(20.0)


def normal_sound(n_samples: int, seed: int = 0, sample_rate: int = 16_000) -> Float32Array:
    """Return the hum and hiss of a healthy machine, shape ``(n_samples,)``."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(n_samples) / sample_rate
    hum = sum(0.05 / k * np.sin(2 * np.pi * 100 * k * time_s) for k in range(1, 6))
    return (hum + 0.01 * rng.standard_normal(n_samples)).astype(np.float32)


def faulty_sound(n_samples: int, seed: int = 0, sample_rate: int = 16_000) -> Float32Array:
    """Return `normal_sound` with a whistle at 3 kHz and more hiss, shape ``(n_samples,)``."""
    rng = np.random.default_rng(seed + 1_000_000)
    time_s = np.arange(n_samples) / sample_rate
    fault = 0.2 * np.sin(2 * np.pi * 3000 * time_s) + 0.1 * rng.standard_normal(n_samples)
    return normal_sound(n_samples, seed, sample_rate) + fault.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class TinyNetwork:
    """The weights of the network.

    Attributes:
        embedding: Shape ``(2 * n_mels, n_dims)``.
        logits: Shape ``(n_dims, n_sections)``.
    """

    embedding: Float32Array
    logits: Float32Array

    @classmethod
    def seeded(cls, n_mels: int, n_dims: int, n_sections: int, seed: int) -> TinyNetwork:
        """Return the network whose weights *seed* draws; louder sound is unlike section 0."""
        rng = np.random.default_rng(seed)
        embedding = rng.standard_normal((2 * n_mels, n_dims)) / np.sqrt(2 * n_mels)
        logits = rng.standard_normal((n_dims, n_sections))
        louder = embedding.sum(axis=0)
        logits[:, 0] = -3.0 * louder / np.linalg.norm(louder)
        return cls(embedding.astype(np.float32), logits.astype(np.float32))

    def run(self, window: Float32Array) -> NetworkOutput:
        """Return what the graph says of *window*, shape ``(window_frames, n_mels)``."""
        standard = (window - CENTRE_DB) / SCALE_DB
        embedding = np.concatenate((standard.mean(axis=0), standard.max(axis=0))) @ self.embedding
        return NetworkOutput(embedding, embedding @ self.logits)

    def graph(self, n_frames: int) -> onnx.ModelProto:
        """Return the network as ONNX, without our metadata."""
        n_mels = len(self.embedding) // 2
        n_dims, n_sections = self.logits.shape
        constants = {
            "centre": np.array(CENTRE_DB),
            "scale": np.array(SCALE_DB),
            "time_axis": np.array([2], np.int64),
            "embedding_weights": self.embedding,
            "logit_weights": self.logits,
        }
        nodes = [
            helper.make_node("Sub", [INPUT, "centre"], ["centred"]),
            helper.make_node("Div", ["centred", "scale"], ["standard"]),
            helper.make_node("ReduceMean", ["standard", "time_axis"], ["mean"], keepdims=0),
            helper.make_node("ReduceMax", ["standard", "time_axis"], ["max"], keepdims=0),
            helper.make_node("Concat", ["mean", "max"], ["pooled"], axis=2),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "embedding_weights"], [EMBEDDING]),
            helper.make_node("MatMul", [EMBEDDING, "logit_weights"], [LOGITS]),
        ]
        return wrap_graph(
            nodes,
            inputs={INPUT: ("batch", 1, n_frames, n_mels)},
            outputs={EMBEDDING: ("batch", n_dims), LOGITS: ("batch", n_sections)},
            constants=constants,
        )


def wrap_graph(
    nodes: list[onnx.NodeProto],
    *,
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
    constants: dict[str, np.ndarray] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """Return the ONNX model of *nodes*; values are named with their shapes."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opset)


def with_metadata(graph: onnx.ModelProto, text: str, key: str = METADATA_KEY) -> bytes:
    """Return the bytes of *graph* with *text* as its metadata; *graph* stays as it is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    helper.set_model_props(copy, {key: text})
    content: bytes = copy.SerializeToString()
    return content


def offline_windows(samples: Float32Array, document: ModelDocument) -> list[Float32Array]:
    """Return the median-filtered windows of *samples*, made by the functions for whole clips."""
    median = MedianFilter(document.window.median_frames)
    frames = log_mel(samples, document.features)
    return [median.process(window) for window in slice_windows(frames, document.window)]


def make_document(
    *,
    n_sections: int = 1,
    method: str = "nearest",
    features: FeatureSpec | None = None,
    window: WindowSpec | None = None,
    clip_windows: int = 31,
) -> ModelDocument:
    """Return a document that lacks references, with thresholds of 1.0 and 0.5."""
    return ModelDocument(
        id="tiny",
        version="1.0.0",
        created="2026-11-22T16:15:34Z",
        machine_type="fan",
        features=features or FeatureSpec(),
        window=window or WindowSpec(),
        scoring=ScoringDocument(method=method, clip_windows=clip_windows),
        sections=tuple(SectionDocument(f"{i:02}", 1.0, 0.5) for i in range(n_sections)),
        training={"seed": 0},
    )


def make_content(
    document: ModelDocument, *, n_dims: int = 8, seed: int = 0, normal: Float32Array | None = None
) -> bytes:
    """Return a model file that knows *normal* as the normal sound of every section.

    References are embeddings of *normal*, not whitened; the threshold of each section stands above
    the highest score of a window of *normal* by the spread of these scores, the clear threshold by
    half of it.

    Args:
        document: What the file says; its references and thresholds are replaced.
        n_dims: Size of the embedding.
        seed: Draws the weights.
        normal: Shape ``(n_samples,)``; by default 20 s of `normal_sound`.
    """
    if normal is None:
        normal = normal_sound(20 * document.features.sample_rate)
    n_sections = len(document.sections)
    network = TinyNetwork.seeded(document.features.n_mels, n_dims, n_sections, seed)
    graph = network.graph(document.window.n_frames)
    outputs = [network.run(window) for window in offline_windows(normal, document)]
    # Without common frames: overlapping windows are so alike that the local density explodes.
    embeddings = np.stack([output.embedding for output in outputs[::8]])
    method = document.scoring.method
    references = Matrix(embeddings) if method in BY_DISTANCE else None
    sections = [replace(section, references=references) for section in document.sections]
    plain = DistanceDocument(1.0, Matrix(np.eye(n_dims, dtype=np.float32)))
    distances = (plain,) if method == "mahalanobis" else ()
    known = replace(document, sections=tuple(sections), distances=distances)
    model = Model(with_metadata(graph, known.to_json()), "tiny")
    fitted = []
    for index, section in enumerate(sections):
        scores = [clip_score(model.scoring(index), [output]) for output in outputs]
        spread = max(scores) - min(scores)
        fitted.append(
            replace(
                section,
                threshold=max(scores) + spread,
                clear_threshold=max(scores) + spread / 2,
            )
        )
    return with_metadata(graph, replace(known, sections=tuple(fitted)).to_json())


def make_model(
    path: Path,
    *,
    n_sections: int = 1,
    n_dims: int = 8,
    method: str = "nearest",
    features: FeatureSpec | None = None,
    window: WindowSpec | None = None,
    clip_windows: int = 31,
    seed: int = 0,
    normal: Float32Array | None = None,
) -> Path:
    """Write a model file to *path* and return *path*; see `make_document`, `make_content`."""
    document = make_document(
        n_sections=n_sections,
        method=method,
        features=features,
        window=window,
        clip_windows=clip_windows,
    )
    key = None if normal is not None else (document.to_json(), n_dims, seed)
    content = _contents.get(key)
    if content is None:
        content = make_content(document, n_dims=n_dims, seed=seed, normal=normal)
    if key is not None:
        _contents[key] = content
    path.write_bytes(content)
    return path


def load_model(path: Path) -> Model:
    """Return the model in the file at *path*, which is of our own making and needs no trial."""
    return Model(path.read_bytes(), str(path))
