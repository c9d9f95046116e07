"""A network as an ONNX graph, in float32 or int8, with the names that the daemon knows."""

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

# What ONNX Runtime 1.17 reads, the oldest that the daemon runs on.
OPSET = 18
IR_VERSION = 9

_QUANTISED = ["Conv", "Clip", "Add"]
"""The convolutions with what stands between them; pooling and classifier stay exact."""


def to_onnx(network: Network, recipe: Recipe) -> onnx.ModelProto:
    """Return *network* as a graph, without a document."""
    # Two windows: of one, the exporter would take the batch size for a constant.
    example = torch.zeros(2, 1, recipe.window.n_frames, recipe.features.n_mels)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it wonders about absent logits
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

    Weights have a scale for each channel, activations one for each tensor, of the range that their
    values in *windows* have.

    Args:
        proto: In float32.
        windows: What is typical, shape ``(n_windows, T, M)``, dB.
    """
    with tempfile.TemporaryDirectory() as folder:
        exact, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("a", "b", "c"))
        onnx.save(proto, exact)
        # Folds batch normalisation, which int8 would not survive.  Shapes are known: no sympy.
        quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            small,
            _Windows(windows),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            # The pair for which x86 has instructions.
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
    """Windows one by one, as the daemon runs them."""

    def __init__(self, windows: Float32Array) -> None:
        self._windows: Iterator[Float32Array] = iter(windows)

    def get_next(self) -> dict[str, Float32Array] | None:
        """Return the next window as the graph's input; `None` after the last."""
        window = next(self._windows, None)
        return None if window is None else {INPUT: window[None, None]}


def _without_traces(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return *proto* without what is of no use to the daemon and tells of who trained it."""
    proto.ir_version = IR_VERSION
    proto.ClearField("doc_string")
    for entry in (proto.graph, *proto.graph.node, *proto.graph.value_info):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    return proto
