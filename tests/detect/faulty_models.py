"""Model files that are sound to look at and fail when they hear a machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeasd.detect.model.network import INPUT

UNTRIED_DB = (7.0, 11.0)
"""The loudest values of the windows of `normal_sound` lie between these, and those of no sound on
which a model is tried before it is used."""
_LOUD = "loud"


def make_failing(path: Path, loudest_db: tuple[float, float] = (-90.0, 1e6)) -> None:
    """Have the model at *path* give no finite number for a window whose loudest value is so loud.

    By default for anything but silence.
    """
    # The square root of what is negative between the two levels, and nothing elsewhere.
    nodes = [
        helper.make_node("Sub", ["loudest_db", "from_db"], ["above"]),
        helper.make_node("Sub", ["loudest_db", "to_db"], ["below"]),
        helper.make_node("Mul", ["above", "below"], ["product"]),
        helper.make_node("Sqrt", ["product"], ["root"]),
        helper.make_node("Mul", ["root", "nothing"], ["added"]),
        helper.make_node("Add", [INPUT, "added"], [_LOUD]),
    ]
    _insert(
        path, loudest_db, nodes, [numpy_helper.from_array(np.array(0.0, np.float32), "nothing")]
    )


def make_stalling(path: Path, loudest_db: tuple[float, float] = (-90.0, 1e6)) -> None:
    """Have the model at *path* never return from a window whose loudest value is so loud."""
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
        helper.make_node("Greater", ["loudest_db", "from_db"], ["is_louder"]),
        helper.make_node("Less", ["loudest_db", "to_db"], ["is_quieter"]),
        helper.make_node("And", ["is_louder", "is_quieter"], ["is_loud"]),
        helper.make_node("Where", ["is_loud", "for_ever", "once"], ["turns"]),
        helper.make_node("Loop", ["turns", "", INPUT], [_LOUD], body=same),
    ]
    constants = [
        numpy_helper.from_array(np.array(2**62), "for_ever"),
        numpy_helper.from_array(np.array(1), "once"),
    ]
    _insert(path, loudest_db, nodes, constants)


def _insert(
    path: Path,
    loudest_db: tuple[float, float],
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
    ends = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in zip(("from_db", "to_db"), loudest_db, strict=True)
    ]
    model.graph.initializer.extend([*ends, *constants])
    network = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([loudest, *nodes, *network])
    path.write_bytes(model.SerializeToString())
