"""What stands beside a model: a calibration of anybody's making, and files that are none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from edgeasd.cli.main import main
from edgeasd.common.config.keys import MachineConfig
from edgeasd.common.documents.reading import DocumentError, read_table
from edgeasd.detect.model.document import DistanceDocument, to_table
from edgeasd.detect.model.matrix import Matrix
from edgeasd.models.calibration_file import (
    CalibrationDocument,
    calibrated_model,
    calibration_path,
    write_calibrations,
)
from tests.detect.models import load_model
from tests.detect.small_models import NEAREST
from tests.installation import calibration
from tools.schemas import calibration_schema

ROWS = Matrix(np.ones((2, 4), np.float32)).to_table()


def machine_at(folder: Path, model: str = "press.onnx", name: str = "press07") -> MachineConfig:
    """Return a machine whose model is in *folder*."""
    (folder / model).write_bytes(NEAREST)
    return MachineConfig(name, folder / model)


pytestmark = pytest.mark.usefixtures("shared_trials")


def with_calibration(machine: MachineConfig) -> Path:
    """Calibrate *machine* and return where its calibration file is."""
    made = calibration(load_model(machine.model).sha256)
    write_calibrations(machine, CalibrationDocument(machine.name, (made,)))
    return calibration_path(machine)


def changed(path: Path, **values: Any) -> None:
    """Change *values* of the newest version in the calibration file at *path*."""
    document = json.loads(path.read_text())
    document["versions"][-1].update(values)
    path.write_text(json.dumps(document))


def make_pipe(path: Path) -> None:
    """Leave a pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (make_pipe, "cannot be read (is not a regular file)"),
        (lambda path: path.write_bytes(b"x" * (2**25 + 1)),
         "cannot be read (is larger than 33554432 bytes)"),
        (lambda path: path.write_bytes(b"\xff"), "cannot be read (is not UTF-8 text)"),
        (lambda path: path.write_text("[" * 200_000), "is not JSON: maximum recursion depth"),
        (lambda path: path.write_text("[" + "[]," * 10**6 + "1]"), "more than 1000000 values"),
        (lambda path: changed(path, fit=json.loads("[" * 40 + "]" * 40)), "more than 32 levels"),
        (lambda path: changed(path, threshold=1e300), "versions[0].threshold=1e+300 must be from"),
        (lambda path: changed(path, threshold=float("nan")), "a number in it is not finite"),
        (lambda path: changed(path, clear_threshold=1e3), "clear_threshold=1000.0 must be at most"),
        (lambda path: changed(path, section="0\x1b[2J"), "must be at most 200 printable"),
        (lambda path: changed(path, number=10**400), "must be from 1 to 1e+09"),
        (lambda path: changed(path, references={"shape": [9999, 9], "float32": ""}),
         "references.shape=[9999, 9] must be two numbers from 1 to 4096"),
        (lambda path: changed(path, references=Matrix(np.ones((2, 5), np.float32)).to_table()),
         "references have 5 columns, not 4"),
        (lambda path: changed(path, references=Matrix(np.ones((4096, 4), np.float32)).to_table()),
         "must be at most 4096"),
        (lambda path: changed(path, distances=[{"weight": 1e-300, "whitening": ROWS}]),
         "weight=1e-300 must be from 1e-06 to 1e+06"),
        (lambda path: changed(path, distances=[{"weight": 1, "whitening": ROWS}] * 17),
         "must be at most 16 items"),
    ],
    ids=["pipe", "large", "binary", "endless", "many", "deep", "threshold", "nan", "crossed",
         "name", "number", "shape", "columns", "rows", "weight", "distances"],
)  # fmt: skip
def test_calibration_file_of_any_content_leaves_the_model_in_force(
    tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    """The machine is listened to by the model's own threshold, and the reason is told."""
    machine = machine_at(tmp_path)
    model = load_model(machine.model)
    spoil(with_calibration(machine))

    found = calibrated_model(machine, model)

    assert found.model is model
    assert found.calibration is None
    assert reason in found.warning
    assert found.warning.endswith("; until then the model's own threshold is in force")


def test_source_whose_name_is_no_text_is_kept(tmp_path: Path) -> None:
    """Recordings may have names in no encoding at all."""
    machine = machine_at(tmp_path)
    made = calibration(load_model(machine.model).sha256)
    made = replace(made, sources=(os.fsdecode(b"/data/\xff.wav"),))

    write_calibrations(machine, CalibrationDocument("press07", (made,)))

    assert calibrated_model(machine, load_model(machine.model)).calibration == made


def shown(model: Path) -> dict[str, Any]:
    """Return what ``edgeasd model`` prints of the calibration files beside *model*."""
    result = CliRunner().invoke(main, ["model", str(model)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)["sites"]
    return found


def test_model_command_tells_what_is_beside_and_no_calibration_file(tmp_path: Path) -> None:
    """A copy under another name, or a damaged file, hides no calibration and ends nothing."""
    machine = machine_at(tmp_path)
    path = with_calibration(machine)
    for name in ("press.onnx.press07.bak.json", "press.onnx..json"):
        (tmp_path / name).write_bytes(path.read_bytes())
    (tmp_path / "press.onnx.saw.json").write_text("{")

    found = shown(machine.model)

    assert found["press07"]["threshold"] == 77.0
    assert "machine='press07' must be 'press07.bak'" in found["press07.bak"]["error"]
    assert "is not JSON" in found["saw"]["error"]
    assert sorted(found) == ["", "press07", "press07.bak", "saw"]


@pytest.mark.parametrize("name", ["fan[1].onnx", "fan*.onnx", "fan?.onnx", "[!a].onnx", "[.onnx"])
def test_model_command_finds_calibration_files_of_any_name(tmp_path: Path, name: str) -> None:
    """A name that would be a pattern stands for itself, and for nothing else."""
    with_calibration(machine_at(tmp_path, name))
    with_calibration(machine_at(tmp_path, "fanx.onnx", "other"))

    assert list(shown(tmp_path / name)) == ["press07"]


# --- the schema ----------------------------------------------------------------------------------

VALIDATOR = jsonschema.Draft202012Validator(calibration_schema())


def table(**values: Any) -> dict[str, Any]:
    """Return the content of a calibration file, its only version with other *values*."""
    matrix = Matrix(np.ones((2, 4)))
    made = replace(
        calibration("0" * 64), references=matrix, distances=(DistanceDocument(1.0, matrix),)
    )
    document = CalibrationDocument("press07", (made,))
    plain: dict[str, Any] = json.loads(json.dumps(document, default=to_table))
    plain["versions"][0].update(values)
    return plain


def test_schema_of_calibrations_is_valid_and_accepts_what_is_written() -> None:
    """What the commands write is valid by the schema, also without added references."""
    jsonschema.Draft202012Validator.check_schema(calibration_schema())
    VALIDATOR.validate(table())
    VALIDATOR.validate(table(references=None, distances=[]))
    VALIDATOR.validate({"machine": "press07"})


@pytest.mark.parametrize(
    ("content", "message", "expressible"),
    [
        ({}, "machine is missing", True),
        ({**table(), "schema": "edgeasd.site/2"}, "must be one of edgeasd.site/1", True),
        ({**table(), "sites": []}, "unknown key 'sites'", True),
        ({**table(), "versions": table()["versions"] * 21}, "at most 20 items", True),
        (table(thresold=1), "did you mean 'threshold'?", True),
        (table(threshold="1"), "versions[0].threshold='1' must be a number", True),
        (table(threshold=1e300), "versions[0].threshold=1e+300 must be from", True),
        (table(raise_after=1.5), "must be a whole number", True),
        (table(number=0), "versions[0].number=0 must be from 1", True),
        (table(method="guessed"), "must be one of counted, tail", True),
        (table(fit=[]), "versions[0].fit=[] must be a table", True),
        (table(score_quantiles=[1.0]), "must be three numbers", True),
        (table(sources="a.wav"), "versions[0].sources must be a list", True),
        (table(references={"shape": [9999, 9], "float32": ""}), "from 1 to 4096", True),
        (table(references={"shape": [2, 4], "float32": "?"}), "must be base64 of (2, 4)", True),
        (table(references={"shape": [3, 4], "float32": "AAAA"}), "must be base64 of (3, 4)", False),
        (table(distances=table()["versions"][0]["distances"] * 17), "at most 16 items", True),
        (table(section="0\x1b[2J"), "at most 200 printable characters", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_schema_of_calibrations_refuses_what_the_code_refuses(
    content: dict[str, Any], message: str, *, expressible: bool
) -> None:
    """A file that the code refuses is invalid by the schema wherever it can say the rule."""
    with pytest.raises(DocumentError) as caught:
        read_table(CalibrationDocument, content)

    assert message in str(caught.value)
    assert VALIDATOR.is_valid(content) == (not expressible)
