from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.train.toy import RECIPE
from train.run import Run

ROOT = Path(__file__).parents[2]


def test_commands_lead_from_clips_to_a_model_file(toy_data: Path, tmp_path: Path) -> None:
    """fit, evaluate and export follow on each other from the command line."""
    recipe, run, model = tmp_path / "toy.toml", tmp_path / "run", tmp_path / "toy.onnx"
    recipe.write_text(RECIPE.to_toml(), encoding="utf-8")

    fitted = _train("fit", recipe, "--data", toy_data, "--out", run, "--device", "cpu")
    evaluated = _train("evaluate", run)
    exported = _train("export", run, "--out", model)

    assert fitted.returncode == 0, fitted.stderr
    assert fitted.stdout == ""
    assert '"epoch": 1' in fitted.stderr
    assert "official score" in evaluated.stdout
    assert exported.stdout.startswith(f"{model}: ")
    assert "differ by at most" in exported.stdout
    assert Run(run).read_info().recipe == "toy"


def test_command_error_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    """What a user can mend is told without a traceback."""
    recipe = tmp_path / "toy.toml"
    recipe.write_text('name = "toy"', encoding="utf-8")

    done = _train("fit", recipe)

    assert done.returncode == os.EX_CONFIG
    assert done.stderr == f"error: {recipe}: scoring is missing\n"


def test_trainer_without_torch_says_how_to_install_it() -> None:
    """On a computer of the daemon the trainer names the command that completes it."""
    program = (
        "import sys, runpy; sys.modules['torch'] = None; "
        "runpy.run_module('train', run_name='__main__')"
    )

    done = _run("-c", program)

    assert done.returncode == 1
    assert done.stderr == (
        "error: the trainer needs torch; install it with: pip install -e '.[train]'\n"
    )


def _train(*args: object) -> subprocess.CompletedProcess[str]:
    return _run("-m", "train", *map(str, args))


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, check=False
    )
