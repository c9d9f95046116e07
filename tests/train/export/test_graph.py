"""Tests of the graph in int8, and of its export behind the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import train.export.export
from edgeasd.common.errors import EdgeasdError
from edgeasd.detect.model.document import METADATA_KEY, ModelDocument
from edgeasd.detect.model.network import Model
from tests.detect.models import load_model
from train.export.export import export
from train.export.gate import Comparison
from train.export.graph import quantise, with_document
from train.runs.run import load_run


@pytest.fixture(scope="module")
def exact(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy run's model file in float32."""
    path = tmp_path_factory.mktemp("models") / "exact.onnx"
    export(toy_run, path)
    return path


def test_quantise_gives_a_graph_that_the_daemon_runs_to_nearly_the_same(
    exact: Path, toy_run: Path
) -> None:
    """Convolutions are in int8; embeddings keep their direction and their length."""
    proto = onnx.load(exact)
    windows = np.concatenate([one.windows() for one in load_run(toy_run, None).data.fitted[:4]])

    small = quantise(proto, windows)

    document = ModelDocument.from_json(
        next(item.value for item in proto.metadata_props if item.key == METADATA_KEY)
    )
    model = Model(with_document(small, document), "int8")
    float32 = load_model(exact)
    for window in windows[::5]:
        one, other = (each.run(window).embedding.astype(np.float64) for each in (float32, model))
        lengths = np.linalg.norm(one), np.linalg.norm(other)
        assert one @ other / np.prod(lengths) > 0.99
        assert lengths[1] == pytest.approx(lengths[0], rel=0.1)
    types = {each.data_type for each in small.graph.initializer}
    assert onnx.TensorProto.INT8 in types
    assert small.ir_version == proto.ir_version


def test_export_int8_that_is_not_worth_it_leaves_the_file_that_is_there(
    toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal holds the figures measured; nothing is written."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    # However quick int8 is on this computer.
    monkeypatch.setattr(train.export.export, "time_windows", _same_time)

    with pytest.raises(
        EdgeasdError,
        match=r"^int8 is refused: rank correlation \S+ over 20 clips, 1\.00 times the speed, "
        r"official score [+-]\d\.\d{4}; needed are a rank correlation of at least 0\.98, ",
    ):
        export(toy_run, path, int8=True)

    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"before"


def test_export_int8_that_is_accepted_learns_what_is_normal_by_its_own_graph(
    exact: Path, toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file tells how int8 compares; references and thresholds are those of the int8 graph."""
    # The toy tells little apart after one epoch: its own comparison may well fail.
    good = Comparison(0.99, 2.0, 0.0, 20)
    monkeypatch.setattr(train.export.export, "_compare", lambda *_: good)

    made = export(toy_run, tmp_path / "model.onnx", int8=True)

    model, float32 = load_model(tmp_path / "model.onnx"), load_model(exact)
    assert made.int8 == good
    assert model.document.training["int8"] == str(good)
    assert made.n_bytes < exact.stat().st_size
    window = load_run(toy_run, None).data.fitted[0].windows()[0]
    assert not np.array_equal(model.run(window).embedding, float32.run(window).embedding)
    for small, large in zip(model.document.sections, float32.document.sections, strict=True):
        assert small.references != large.references
        assert small.threshold != large.threshold


def _same_time(models: dict[str, Any], _: object) -> dict[str, float]:
    return dict.fromkeys(models, 1.0)
