"""``python -m train.export.template`` makes the graph that ``edgeasd learn`` fills.

It writes edgeasd/models/mean.onnx.  The graph is the mean of a window over time, which needs no
weights, and has no document yet: the command adds one.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

import edgeasd
from edgeasd.baseline.learning import FEATURES, WINDOW
from edgeasd.detect.model.network import EMBEDDING, INPUT
from train.export.graph import IR_VERSION, OPSET

PATH = Path(edgeasd.__file__).parent / "models" / "mean.onnx"


def mean_graph() -> onnx.ModelProto:
    """Return the graph: ``(batch, 1, n_frames, n_mels)`` to ``(batch, n_mels)``."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", [INPUT, "axes"], [EMBEDDING], keepdims=0)],
        "mean",
        [
            helper.make_tensor_value_info(
                INPUT, TensorProto.FLOAT, ["batch", 1, WINDOW.n_frames, FEATURES.n_mels]
            )
        ],
        [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", FEATURES.n_mels])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[opset])
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    onnx.save(mean_graph(), PATH)
