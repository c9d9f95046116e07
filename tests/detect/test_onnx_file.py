"""What is known of an ONNX file before ONNX Runtime sees it: that it is whole, and complete."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from hypothesis import given
from onnx import TensorProto

from edgeasd.common.documents.reading import DocumentError
from edgeasd.detect.model.document import METADATA_KEY
from edgeasd.detect.model.onnx_file import read_metadata
from tests.detect.small_models import NEAREST, graph_of
from tests.mutation import spoiled


def make_external(tensor: onnx.TensorProto) -> None:
    """Have the data of *tensor* come from another file, as much of it as the tensor holds."""
    tensor.CopyFrom(graph_of(NEAREST).graph.initializer[-1])
    n_bytes = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "credentials/mqtt_password"), ("length", str(n_bytes))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def attribute_of(model: onnx.ModelProto) -> onnx.AttributeProto:
    """Return a new attribute of the last node."""
    attribute: onnx.AttributeProto = model.graph.node[-1].attribute.add()
    return attribute


PLACES: dict[str, Callable[[onnx.ModelProto], onnx.TensorProto]] = {
    "initialiser": lambda model: model.graph.initializer[-1],
    "sparse values": lambda model: model.graph.sparse_initializer.add().values,
    "sparse indices": lambda model: model.graph.sparse_initializer.add().indices,
    "attribute": lambda model: attribute_of(model).t,
    "list of an attribute": lambda model: attribute_of(model).tensors.add(),
    "sparse attribute": lambda model: attribute_of(model).sparse_tensor.values,
    "list of sparse ones": lambda model: attribute_of(model).sparse_tensors.add().indices,
    "graph in a node": lambda model: attribute_of(model).g.initializer.add(),
    "list of graphs": lambda model: attribute_of(model).graphs.add().initializer.add(),
    "node of a graph in a node": lambda model: (
        attribute_of(model).g.node.add().attribute.add().g.node.add().attribute.add().t
    ),
    "function": lambda model: model.functions.add().node.add().attribute.add().t,
    "default of a function": lambda model: model.functions.add().attribute_proto.add().t,
    "training": lambda model: model.training_info.add().algorithm.initializer.add(),
    "start of training": lambda model: model.training_info.add().initialization.initializer.add(),
}


def refusal(content: bytes) -> str:
    """Return why the walk refuses *content*."""
    with pytest.raises(DocumentError) as caught:
        read_metadata(content, METADATA_KEY)
    return str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused_wherever_it_stands(place: str) -> None:
    """No tensor of a model may come from another file, be it used or not."""
    model = graph_of(NEAREST)

    make_external(PLACES[place](model))

    assert refusal(model.SerializeToString()) == (
        "graph tensor 'logit_weights' has external data; a model is one file: export it with its "
        "weights inside"
    )


def test_external_data_in_two_halves_is_refused() -> None:
    """Messages that follow each other are merged; the second one may say where the data are."""
    model, other = graph_of(NEAREST), onnx.ModelProto()
    tensor = other.graph.initializer.add()
    tensor.name, tensor.data_location = "late", TensorProto.EXTERNAL

    assert "'late' has external data" in refusal(
        model.SerializeToString() + other.SerializeToString()
    )


def test_format_of_onnx_runtime_is_refused() -> None:
    """Flat buffers name themselves in bytes 4 to 7; their content cannot be walked over."""
    assert refusal(b"\x20\0\0\0ORTM" + bytes(100)).startswith(
        "is in ONNX Runtime's own format, .ort"
    )


def test_random_numbers_are_refused() -> None:
    """A network that draws them gives the same sound another score each time."""
    model = graph_of(NEAREST)
    node = attribute_of(model).g.node.add()
    node.op_type = "RandomNormalLike"

    assert refusal(model.SerializeToString()) == (
        "graph node of type RandomNormalLike draws random numbers; the same sound must always "
        "give the same score"
    )


def test_graphs_without_end_are_refused() -> None:
    """However deep they nest, the walk calls itself nowhere."""
    graph = onnx.GraphProto()
    for _ in range(20):
        outer = onnx.GraphProto()
        outer.node.add().attribute.add().g.CopyFrom(graph)
        graph = outer
    content = graph.SerializeToString()

    assert (
        refusal(b"\x3a" + varint(len(content)) + content)
        == "graph holds graphs more than 16 levels deep"
    )


def test_fields_without_end_are_refused() -> None:
    """A file of millions of empty nodes is given up long before its end."""
    nodes = b"\x0a\x00" * 300_000

    assert refusal(b"\x3a" + varint(len(nodes)) + nodes) == "graph has more than 200000 fields"


def varint(value: int) -> bytes:
    """Return *value* as Protocol Buffers write it."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def test_last_document_of_several_holds() -> None:
    """As in ONNX Runtime, so that both speak of the same document."""
    model = graph_of(NEAREST)
    for value in ("first", "second"):
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, value
    model.metadata_props.add().key = "other"

    assert read_metadata(model.SerializeToString(), METADATA_KEY) == b"second"
    assert read_metadata(model.SerializeToString(), "none") is None


def has_external_data(message: object) -> bool:
    """Return whether protobuf's own library finds a tensor with external data in *message*."""
    if isinstance(message, onnx.TensorProto):
        return message.data_location == TensorProto.EXTERNAL or len(message.external_data) > 0
    fields = [value for _, value in getattr(message, "ListFields", list)()]
    inner = [one for value in fields for one in (value if hasattr(value, "add") else [value])]
    return any(has_external_data(one) for one in inner)


def model_with_external_data() -> bytes:
    """Return a model file with external data in a graph in a node."""
    model = graph_of(NEAREST)
    make_external(PLACES["graph in a node"](model))
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.fuzz
@given(spoiled(model_with_external_data(), 900))
def test_external_data_is_found_wherever_protobuf_finds_it(content: bytes) -> None:
    """No way to spoil the bytes hides it from the walk and leaves it to ONNX Runtime."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
        expected = has_external_data(model)
    except Exception:  # noqa: BLE001 - protobuf's own, which is no public name
        expected = False

    try:
        read_metadata(content, METADATA_KEY)
    except DocumentError:
        return
    assert not expected
