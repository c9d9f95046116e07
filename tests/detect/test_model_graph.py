"""Tests of the graph in a model file: it must fit the document, and run."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeasd.detect.model.document import METADATA_KEY
from edgeasd.detect.model.matrix import Matrix
from edgeasd.detect.model.network import EMBEDDING, INPUT, LOGITS
from tests.detect.models import with_metadata, wrap_graph
from tests.detect.small_models import LOG_ODDS, NEAREST, changed, document_of, refusal, setter


def test_model_geometry_of_another_graph_is_refused() -> None:
    """The window that the document describes must be what the graph takes."""
    message = (
        "graph input log_mel has shape ['batch', 1, 8, 8]; window.n_frames and features.n_mels "
        "ask for ['batch', 1, {}]"
    )

    assert refusal(changed(NEAREST, setter("features", "n_mels", to=9))) == message.format("8, 9")
    assert refusal(changed(NEAREST, setter("window", "n_frames", to=9))) == message.format("9, 8")


def test_model_logits_of_other_sections_are_refused() -> None:
    """Every section needs a logit of its own, and every logit a section."""
    three = changed(
        LOG_ODDS,
        lambda document: document["sections"].append({**document["sections"][0], "name": "02"}),
    )

    assert refusal(three) == (
        "sections has 3 entries and must have one for each of the graph's 2 logits"
    )


def test_model_references_of_another_embedding_are_refused() -> None:
    """References must be as long as what the network gives."""
    references = Matrix(np.ones((2, 5), np.float32))

    message = refusal(
        changed(NEAREST, setter("sections", 0, "references", to=references.to_table()))
    )

    assert message == (
        "sections[0].references.shape=[2, 5] must have 4 columns, as many as the graph's embedding"
    )


DOCUMENT_TEXT = json.dumps(document_of(NEAREST))
LOG_ODDS_TEXT = json.dumps(document_of(LOG_ODDS))
INPUT_SHAPE: tuple[int | str, ...] = ("batch", 1, 8, 8)


def pooled_graph(
    *nodes: onnx.NodeProto, shape: tuple[int | str, ...], dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Return the graph of *nodes* from ``log_mel`` to an ``embedding`` of *shape*."""
    return wrap_graph(
        list(nodes), inputs={INPUT: INPUT_SHAPE}, outputs={EMBEDDING: shape}, dtype=dtype
    )


def test_model_graph_with_other_names_is_refused() -> None:
    """The graph's input and outputs are known by their names."""
    other_input = wrap_graph(
        [helper.make_node("Flatten", ["sound"], [EMBEDDING], axis=1)],
        inputs={"sound": INPUT_SHAPE},
        outputs={EMBEDDING: ("batch", 64)},
    )
    other_output = wrap_graph(
        [helper.make_node("Flatten", [INPUT], ["feature"], axis=1)],
        inputs={INPUT: INPUT_SHAPE},
        outputs={"feature": ("batch", 64)},
    )
    no_logits = pooled_graph(
        helper.make_node("Flatten", [INPUT], [EMBEDDING], axis=1), shape=("batch", 64)
    )

    assert refusal(with_metadata(other_input, DOCUMENT_TEXT)) == (
        "graph inputs ['sound'] must be ['log_mel']"
    )
    assert refusal(with_metadata(other_output, DOCUMENT_TEXT)) == (
        "graph outputs ['feature'] must hold 'embedding'"
    )
    assert refusal(with_metadata(no_logits, LOG_ODDS_TEXT)) == (
        "graph outputs ['embedding'] must hold 'logits'"
    )


def test_model_graph_of_another_type_is_refused() -> None:
    """A graph that takes float64 cannot be fed with float32 windows."""
    graph = pooled_graph(
        helper.make_node("Flatten", [INPUT], [EMBEDDING], axis=1),
        shape=("batch", 64),
        dtype=TensorProto.DOUBLE,
    )

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        "graph input log_mel has type tensor(double) and must have tensor(float)"
    )


@pytest.mark.parametrize("shape", [(32, 1, 8, 8), ("batch", 8, 8), None])
def test_model_graph_of_another_rank_or_batch_is_refused(
    shape: tuple[int | str, ...] | None,
) -> None:
    """A batch of several windows, a missing axis or no shape at all cannot be fed."""
    graph = pooled_graph(
        helper.make_node("Flatten", [INPUT], [EMBEDDING], axis=1), shape=("rows", "columns")
    )
    graph.graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        f"graph input log_mel has shape {list(shape or [])}; window.n_frames and features.n_mels "
        "ask for ['batch', 1, 8, 8]"
    )


def test_model_embedding_of_another_rank_is_refused() -> None:
    """An embedding is one row a window."""
    graph = pooled_graph(helper.make_node("Identity", [INPUT], [EMBEDDING]), shape=INPUT_SHAPE)

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        "graph output embedding must be float32 of shape ['batch', n]"
    )


def test_model_scalar_embedding_is_refused() -> None:
    """An embedding without any axis is refused, not let out as an IndexError."""
    graph = pooled_graph(helper.make_node("ReduceMean", [INPUT], [EMBEDDING], keepdims=0), shape=())

    message = refusal(with_metadata(graph, DOCUMENT_TEXT))

    assert message.startswith("graph cannot be run on silence (")


def test_model_graph_that_fails_when_run_is_refused() -> None:
    """A graph that loads but cannot be run is refused at the start, not at the first window."""
    graph = wrap_graph(
        [
            helper.make_node("Flatten", [INPUT], ["flat"], axis=1),
            helper.make_node("NonZero", ["flat"], ["places"]),
            helper.make_node("Cast", ["places"], ["columns"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["columns", "weights"], [EMBEDDING]),
        ],
        inputs={INPUT: INPUT_SHAPE},
        outputs={EMBEDDING: ("batch", 4)},
        constants={"weights": np.ones((3, 4), np.float32)},
    )

    message = refusal(with_metadata(graph, DOCUMENT_TEXT))

    assert message.startswith("graph cannot be run on silence ([ONNXRuntimeError] : ")


def test_model_not_finite_on_silence_is_refused() -> None:
    """A network that gives NaN when the machine is off is refused before it is."""
    graph = pooled_graph(
        helper.make_node("Sqrt", [INPUT], ["root"]),
        helper.make_node("Flatten", ["root"], [EMBEDDING], axis=1),
        shape=("batch", 64),
    )

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        "graph output embedding must be finite for silence"
    )


def test_model_outputs_keep_their_names() -> None:
    """Exported graphs and the code agree on the names of the graph's ends."""
    assert (INPUT, EMBEDDING, LOGITS, METADATA_KEY) == (
        "log_mel",
        "embedding",
        "logits",
        "edgeasd",
    )
