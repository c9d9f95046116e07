from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.train.toy import RECIPE, write_clips
from train.runs.fit import fit


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep to one thread: on a busy computer, threads that wait for each other take far longer."""
    torch.set_num_threads(1)


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
