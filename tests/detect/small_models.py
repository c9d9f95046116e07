"""Model files of a few kilobytes, and ways to spoil them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import onnx
import pytest

from edgeasd.common.errors import ModelError
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.model.document import METADATA_KEY
from edgeasd.detect.model.network import Model
from edgeasd.detect.windows import WindowSpec
from tests.detect.models import make_content, make_document, normal_sound, with_metadata

SMALL_FEATURES = FeatureSpec(n_fft=64, hop_length=32, n_mels=8)
SMALL_WINDOW = WindowSpec(n_frames=8, hop_frames=4, median_frames=3)

Change = Callable[[dict[str, Any]], object]


def small_content(n_sections: int = 2, method: str = "log_odds") -> bytes:
    """Return a model file of a few kilobytes."""
    document = make_document(
        n_sections=n_sections, method=method, features=SMALL_FEATURES, window=SMALL_WINDOW
    )
    n_dims = 1 if method == "reconstruction" else 4
    return make_content(document, n_dims=n_dims, normal=normal_sound(2000))


NEAREST = small_content(1, "nearest")
LOG_ODDS = small_content(2, "log_odds")
MAHALANOBIS = small_content(1, "mahalanobis")
RECONSTRUCTION = small_content(1, "reconstruction")


def graph_of(content: bytes) -> onnx.ModelProto:
    """Return the graph in the model file *content*."""
    graph = onnx.ModelProto()
    graph.ParseFromString(content)
    return graph


def document_of(content: bytes) -> dict[str, Any]:
    """Return the document in the model file *content* as plain values."""
    properties = {item.key: item.value for item in graph_of(content).metadata_props}
    document: dict[str, Any] = json.loads(properties[METADATA_KEY])
    return document


def changed(content: bytes, change: Change) -> bytes:
    """Return the model file *content* with its document changed in place by *change*."""
    document = document_of(content)
    change(document)
    return with_metadata(graph_of(content), json.dumps(document))


def refusal(content: bytes) -> str:
    """Return the message with which the model file *content* is refused, without its origin."""
    with pytest.raises(ModelError) as caught:
        Model(content, "tiny.onnx")
    message = str(caught.value)
    assert message.startswith("tiny.onnx: ")
    return message.removeprefix("tiny.onnx: ")


def setter(*path: str | int, to: Any) -> Change:
    """Return the change that sets the value at *path*."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


def remover(*path: str | int) -> Change:
    """Return the change that takes the value at *path* away."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change
