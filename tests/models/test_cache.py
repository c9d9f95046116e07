"""Tests of how model files are taken up: what is read, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeasd.common.errors import ModelError
from edgeasd.detect.model.network import Model
from edgeasd.models.cache import open_model
from tests.detect.small_models import NEAREST


def test_open_model_gives_the_model_of_the_file(tmp_path: Path) -> None:
    """A file gives its document and the digest of its bytes."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(NEAREST)

    model = open_model(path)

    assert model.document == Model(NEAREST, "tiny").document
    assert model.sha256 == Model(NEAREST, "elsewhere").sha256
    assert len(model.sha256) == 64


def test_open_model_missing_file_is_refused(tmp_path: Path) -> None:
    """Without a file, the message says which one and how to make one."""
    path = tmp_path / "tiny.onnx"

    with pytest.raises(ModelError) as caught:
        open_model(path)

    assert str(caught.value) == (
        f"{path}: cannot be read (No such file or directory); "
        "make a model file with 'edgeasd learn' or 'python -m train export'"
    )


def test_open_model_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no model file."""
    with pytest.raises(ModelError) as caught:
        open_model(tmp_path)

    assert str(caught.value) == (
        f"{tmp_path}: cannot be read (Is a directory); make a model file with 'edgeasd learn' or "
        "'python -m train export'"
    )
