"""Whatever files a user hands over, the command line says in a line what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.cli.main import main
from tests.capture.test_wavfile_damage import RECORDINGS
from tests.detect.models import with_metadata
from tests.detect.small_models import MAHALANOBIS, NEAREST, document_of, graph_of
from tests.mutation import altered, fewer_examples, spoiled

pytestmark = [pytest.mark.fuzz, pytest.mark.usefixtures("shared_trials")]

DOCUMENTED = {0, os.EX_DATAERR, os.EX_NOINPUT, os.EX_UNAVAILABLE, os.EX_CANTCREAT, os.EX_CONFIG}
CONFIG = """\
[mqtt]
host = "127.0.0.1"
port = 1

[[machine]]
name = "fan"
model = "model.onnx"
section = "00"

[machine.file]
path = "sound.wav"
paced = false

[machine.alarm]
threshold = 2.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that are written anew for each example."""
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of warnings about spoiled files are not kept."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def edgeasd(*arguments: str | Path) -> Result:
    """Run the command line and check that it ended as it may."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in DOCUMENTED, result.output
    assert "Traceback" not in result.output
    if result.exit_code and arguments[0] != "check":
        assert result.stderr.startswith("edgeasd: ")
    return result


MODELS = (
    spoiled(NEAREST)
    | spoiled(MAHALANOBIS)
    | altered(document_of(NEAREST)).map(
        lambda document: with_metadata(graph_of(NEAREST), json.dumps(document))
    )
)


@given(MODELS)
def test_model_of_any_spoiled_file_prints_json_or_a_line(folder: Path, content: bytes) -> None:
    """`edgeasd model` prints a document, or one line that says what is wrong."""
    path = folder / "model.onnx"
    path.write_bytes(content)

    result = edgeasd("model", path)

    if result.exit_code == 0:
        assert json.loads(result.stdout)["sha256"]
    else:
        assert result.exit_code == os.EX_DATAERR
        assert result.stderr.count("\n") == 1


@given(
    st.sampled_from(RECORDINGS).flatmap(spoiled),
    st.just(NEAREST) | MODELS,
    st.sampled_from(["window", "clip"]),
    st.sampled_from(["jsonl", "csv"]),
)
def test_score_of_any_spoiled_files_prints_rows_or_a_line(
    folder: Path, recording: bytes, model: bytes, per: str, form: str
) -> None:
    """`edgeasd score` prints rows of numbers, or says which file is wrong."""
    (folder / "sound.wav").write_bytes(recording)
    (folder / "model.onnx").write_bytes(model)

    result = edgeasd(
        *("score", "--model", folder / "model.onnx", "--section", "00", "--per", per),
        *("--format", form, folder / "sound.wav"),
    )

    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
    else:
        rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(float(row["score"]) > -float("inf") for row in rows)


@fewer_examples(2)
@given(st.sampled_from(RECORDINGS).flatmap(spoiled), st.just(NEAREST) | MODELS)
def test_explain_of_any_spoiled_files_prints_words_or_a_line(
    folder: Path, recording: bytes, model: bytes
) -> None:
    """`edgeasd explain` says something of the sound, or which file is wrong."""
    (folder / "sound.wav").write_bytes(recording)
    (folder / "model.onnx").write_bytes(model)

    result = edgeasd(
        *("explain", "--model", folder / "model.onnx", "--section", "00", folder / "sound.wav")
    )

    assert (result.stdout == "") == (result.exit_code != 0)


@fewer_examples(5)
@given(spoiled(CONFIG.encode(), head=0), st.just(NEAREST) | MODELS)
def test_check_of_any_spoiled_files_gives_verdicts(
    folder: Path, config: bytes, model: bytes
) -> None:
    """`edgeasd check` gives a verdict a line and the exit code of a failure."""
    (folder / "sound.wav").write_bytes(RECORDINGS[0])
    (folder / "model.onnx").write_bytes(model)
    # The first line is not spoiled: no folder is made elsewhere.
    (folder / "edgeasd.toml").write_bytes(b'state_dir = "state"\n' + config)

    result = edgeasd("check", "--config", folder / "edgeasd.toml")

    marks = {line[:4] for line in result.stdout.splitlines()}
    assert marks <= {"ok  ", "warn", "FAIL"}
    assert ("FAIL" in marks) == (result.exit_code != 0)
