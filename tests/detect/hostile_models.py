"""Model files that are made to do harm, and what is said of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import helper

from edgeasd.detect.model.network import INPUT
from tests.detect.models import make_document, with_metadata, wrap_graph
from tests.detect.small_models import NEAREST, document_of, graph_of

Change = Callable[[dict[str, Any]], object]


def _network(*nodes: Any, **constants: Any) -> bytes:
    """Return a model whose score is the mean of the window, taken from ``sound`` by *nodes*."""
    graph = wrap_graph(
        [
            helper.make_node("ReduceMean", [INPUT, "axes"], ["mean"], keepdims=0),
            helper.make_node("Reshape", ["mean", "row"], ["sound"]),
            *nodes,
        ],
        inputs={INPUT: ("batch", 1, 64, 128)},
        outputs={"embedding": ("batch", 1)},
        constants={
            "axes": np.array([1, 2, 3]),
            "row": np.array([-1, 1]),
            **{name: np.asarray(value) for name, value in constants.items()},
        },
    )
    return with_metadata(graph, make_document(method="reconstruction").to_json())


def _altered(**changes: Any) -> bytes:
    """Return a good model with other values in its document, tables by their keys."""
    document = document_of(NEAREST)
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return with_metadata(graph_of(NEAREST), json.dumps(document))


def _external() -> bytes:
    graph = graph_of(NEAREST)
    tensor = graph.graph.initializer[-1]
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "etc/passwd"
    content: bytes = graph.SerializeToString()
    return content


def _expanded() -> bytes:
    """Return a model of less than a kilobyte that takes three gigabytes at its first window."""
    return _network(
        helper.make_node("Expand", ["sound", "shape"], ["much"]),
        helper.make_node("Add", ["much", "one"], ["more"]),
        helper.make_node("ReduceMax", ["more", "last"], ["embedding"]),
        shape=[1, 400_000_000],
        one=np.float32(1.0),
        last=[1],
    )


def _endless() -> bytes:
    """Return a model that never returns from any sound but silence."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Neg", ["is"], ["was"])],
        "again",
        [
            helper.make_tensor_value_info("turn", 7, ()),
            helper.make_tensor_value_info("go", 9, ()),
            helper.make_tensor_value_info("is", 1, None),
        ],
        [
            helper.make_tensor_value_info("goes", 9, ()),
            helper.make_tensor_value_info("was", 1, None),
        ],
    )
    return _network(
        helper.make_node("ReduceMax", ["sound"], ["loudest"], keepdims=0),
        helper.make_node("Greater", ["loudest", "silence"], ["hears"]),
        helper.make_node("Where", ["hears", "for_ever", "once"], ["turns"]),
        helper.make_node("Loop", ["turns", "", "sound"], ["embedding"], body=body),
        silence=np.float32(-90.0),
        for_ever=2**62,
        once=1,
    )


def _slow() -> bytes:
    """Return a model that takes some seconds for each second of sound."""
    nodes = [
        helper.make_node("Mul", ["sound", "nothing"], ["silence"]),
        helper.make_node("Tile", ["silence", "times"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{n}", f"m{n}"], [f"m{n + 1}"]) for n in range(12)),
        helper.make_node("ReduceMean", ["m12", "both"], ["embedding"]),
    ]
    return _network(*nodes, times=[1500, 1500], nothing=np.float32(0.0), both=[0, 1])


HOSTILE: Mapping[str, tuple[Callable[[], bytes], str]] = MappingProxyType(
    {
        "external data": (_external, "graph tensor 'logit_weights' has external data"),
        "other format": (lambda: NEAREST[:4] + b"ORTM" + NEAREST[8:], "own format, .ort"),
        "large file": (lambda: bytes(2**26 + 1), "cannot be read (is larger than 67108864 bytes)"),
        "large document": (
            lambda: _altered(machine_type="fan", training={"x": "y" * 2**25}),
            "metadata 'edgeasd' is larger than 32 MiB",
        ),
        "many values": (lambda: _altered(training={"x": [[]] * 2**20}), "more than 1000000 values"),
        "deep document": (
            lambda: with_metadata(graph_of(NEAREST), '{"a":' * 900 + "1" + "}" * 900),
            "metadata 'edgeasd' is JSON of more than 32 levels",
        ),
        "long name": (lambda: _altered(id="I" * 5_000_000), "id='III"),
        "name that steers": (
            lambda: _altered(version="1\n\x1b[2Jok   broker: all is well"),
            "must be at most 200 printable characters",
        ),
        "filter bank": (
            lambda: _altered(features={"n_mels": 1000, "n_fft": 65_536}),
            "features.n_fft times n_mels is 65536000 and must be at most 4194304",
        ),
        "every sample": (
            lambda: _altered(features={"hop_length": 1}, window={"hop_frames": 1}),
            "window.hop_frames must be at least 32.0 times as much",
        ),
        "memory": (_expanded, "takes more than 256 MiB of memory"),
        "loop": (_endless, "does not come to an end, in loading or on sound of some kind"),
        "slow": (_slow, "for a second of sound"),
        "scores beyond use": (
            lambda: _network(
                helper.make_node("Mul", ["sound", "much"], ["embedding"]), much=np.float32(1e30)
            ),
            "sections[0] gives a score of -",
        ),
        "not finite": (
            lambda: _network(
                helper.make_node("Sub", ["level", "sound"], ["below"]),
                helper.make_node("Sqrt", ["below"], ["embedding"]),
                level=np.float32(-30.0),
            ),
            "the network's output is not finite",
        ),
    }
)
