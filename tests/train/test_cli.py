from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train.cli
from tests.train.toy import RECIPE, run_trainer
from train.runs.run import Run


def test_fit_command_leaves_a_run(toy_data: Path, tmp_path: Path) -> None:
    """A recipe and clips are all that training needs; epochs are told on standard error."""
    recipe, run = tmp_path / "toy.toml", tmp_path / "run"
    recipe.write_text(RECIPE.to_toml(), encoding="utf-8")

    done = run_trainer("fit", recipe, "--data", toy_data, "--out", run, "--device", "cpu")

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert '"epoch": 1' in done.stderr
    assert Run(run).read_info().recipe == "toy"


def test_evaluate_command_prints_a_table_for_each_method(
    toy_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each section and domain has a line, under each method."""
    monkeypatch.setattr(sys, "argv", ["train", "evaluate", str(toy_run)])

    with pytest.raises(SystemExit) as done:
        train.cli.main()

    assert done.value.code == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for method in ("nearest", "log_odds", "mahalanobis"):
        assert lines.count([method]) == 1
    assert sum(line[:2] == ["01", "target"] for line in lines) == 3
    assert sum(line[:2] == ["official", "score"] for line in lines) == 3


def test_command_error_is_one_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a user can mend is told without a traceback."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text('name = "toy"', encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["train", "fit", str(recipe)])

    with pytest.raises(SystemExit) as done:
        train.cli.main()

    assert done.value.code == os.EX_CONFIG
    assert capsys.readouterr().err == f"error: {recipe}: scoring is missing\n"


def test_fit_command_on_a_device_that_is_not_there_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that this computer lacks is an error of one line."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text(RECIPE.to_toml(), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["train", "fit", str(recipe), "--device", "cuda:99"])

    with pytest.raises(SystemExit) as done:
        train.cli.main()

    assert done.value.code == os.EX_CONFIG
    error = capsys.readouterr().err
    assert error.startswith("error: --device=cuda:99 must be one that PyTorch can use (")
    assert error.count("\n") == 1


def test_trainer_without_torch_says_how_to_install_it() -> None:
    """On a computer of the daemon the trainer names the command that completes it."""
    program = (
        "import sys, runpy; sys.modules['torch'] = None; "
        "runpy.run_module('train', run_name='__main__')"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(train.cli.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "error: the trainer needs torch; install it with: pip install -e '.[train]'\n"
    )
