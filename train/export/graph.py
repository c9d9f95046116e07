"""From a network to an ONNX graph in float32 or int8, with the names that the daemon expects."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgeasd.common.types import Float32Array
from edgeasd.detect.model.document import METADATA_KEY, ModelDocument
from edgeasd.detect.model.network import EMBEDDING, INPUT, LOGITS
from train.networks.model import Network, SectionNet
from train.recipe.recipe import Recipe

OPSET = 18
"""Version of the operators; ONNX Runtime 1.17, the oldest that the daemon runs on, reads it."""
IR_VERSION = 9
"""Version of the file format; see `OPSET`."""

_QUANTISED = ["Conv", "Clip", "Add"]
"""The convolutions and what is between them; pooling and classifier stay in float32."""


def to_onnx(network: Network, recipe: Recipe) -> onnx.ModelProto:
    """Return *network* as a graph, without a document."""
    # Two windows, as the exporter would take a batch size of one for a constant.
    example = torch.zeros(2, 1, recipe.window.n_frames, recipe.features.n_mels)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of absent logits
    program = torch.onnx.export(
        network,
        (example,),
        input_names=[INPUT],
        output_names=[EMBEDDING, LOGITS] if isinstance(network, SectionNet) else [EMBEDDING],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return _without_traces(program.model_proto)


def quantise(proto: onnx.ModelProto, windows: Float32Array) -> onnx.ModelProto:
    """Return the graph with its convolutions in int8, by static quantisation in QDQ form.

    Weights have a scale for each channel, activations one for each tensor, by the range of the
    values that *windows* give.

    Args:
        proto: The graph in float32.
        windows: Typical windows, shape ``(n_windows, T, M)``, dB.
    """
    with tempfile.TemporaryDirectory() as folder:
        exact, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        onnx.save(proto, exact)
        # Folds batch normalisation into the convolutions, as in int8 it would be far too coarse.
        # Symbolic shapes would need sympy, and all shapes are known.
        quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            small,
            _Windows(windows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            # x86 has instructions for this pair of types.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return _without_traces(onnx.load(small))


def with_document(proto: onnx.ModelProto, document: ModelDocument) -> bytes:
    """Return the bytes of a model file."""
    onnx.helper.set_model_props(proto, {METADATA_KEY: document.to_json()})
    content: bytes = proto.SerializeToString()
    return content


class _Windows(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """Gives the quantiser windows one by one, as the daemon runs them."""

    def __init__(self, windows: Float32Array) -> None:
        self._windows: Iterator[Float32Array] = iter(windows)

    def get_next(self) -> dict[str, Float32Array] | None:
        """Return the next window as the graph's input; `None` after the last."""
        window = next(self._windows, None)
        return None if window is None else {INPUT: window[None, None]}


def _without_traces(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return *proto* without texts that the daemon does not need and that tell who trained it."""
    proto.ir_version = IR_VERSION
    proto.ClearField("doc_string")
    for entry in (proto.graph, *proto.graph.node, *proto.graph.value_info):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    return proto
