"""Model files that are sound to look at and fail when they hear a machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeasd.detect.model import INPUT

_LOUD = "loud"


def make_failing(path: Path, threshold_db: float = -90.0) -> None:
    """Have the model at *path* give no finite number for a window louder than *threshold_db*.

    By default for anything but silence.
    """
    # The square root of what is negative: of minus the loudest level, counted from the threshold.
    nodes = [
        helper.make_node("Sub", ["threshold_db", "loudest_db"], ["below"]),
        helper.make_node("Sqrt", ["below"], ["root"]),
        helper.make_node("Add", [INPUT, "root"], [_LOUD]),
    ]
    _insert(path, threshold_db, nodes, [])


def make_stalling(path: Path, threshold_db: float) -> None:
    """Have the model at *path* never return from a window louder than *threshold_db*."""
    same = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "again",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Greater", ["loudest_db", "threshold_db"], ["is_loud"]),
        helper.make_node("Where", ["is_loud", "for_ever", "once"], ["turns"]),
        helper.make_node("Loop", ["turns", "", INPUT], [_LOUD], body=same),
    ]
    constants = [
        numpy_helper.from_array(np.array(2**62), "for_ever"),
        numpy_helper.from_array(np.array(1), "once"),
    ]
    _insert(path, threshold_db, nodes, constants)


def _insert(
    path: Path,
    threshold_db: float,
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
) -> None:
    """Put *nodes* between the input of the model at *path* and whatever takes it."""
    model = onnx.load(path)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == INPUT:
                node.input[index] = _LOUD
    loudest = helper.make_node("ReduceMax", [INPUT], ["loudest_db"], keepdims=0)
    threshold = numpy_helper.from_array(np.array(threshold_db, np.float32), "threshold_db")
    model.graph.initializer.extend([threshold, *constants])
    network = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([loudest, *nodes, *network])
    path.write_bytes(model.SerializeToString())
