from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch

import train.export.export
from tests.train.toy import RECIPE, write_clips
from train.export.graph import to_onnx as convert
from train.networks.model import Network
from train.recipe.recipe import Recipe
from train.runs.fit import fit


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep to one thread: on a busy computer, threads that wait for each other take far longer."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def converted_once() -> Iterator[None]:
    """Convert the same network to ONNX once: it takes seconds, and many tests export the toy."""
    graphs: dict[str, bytes] = {}

    def to_onnx(network: Network, recipe: Recipe) -> onnx.ModelProto:
        key = hashlib.sha256(f"{network}{recipe.window}{recipe.features}".encode())
        for name, value in network.state_dict().items():
            key.update(name.encode() + value.numpy().tobytes())
        if key.hexdigest() not in graphs:
            graphs[key.hexdigest()] = convert(network, recipe).SerializeToString()
        return onnx.load_from_string(graphs[key.hexdigest()])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.export.export, "to_onnx", to_onnx)
        yield


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two machines; not to be changed."""
    return write_clips(tmp_path_factory.mktemp("data") / "toy_fan")


@pytest.fixture(scope="session")
def toy_run(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, scored by distance; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    fit(RECIPE, toy_data, folder, torch.device("cpu"))
    return folder
