"""The trainer's commands in the documentation work."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import soundfile

import train.cli
from edgeasd.capture.simulator.rotating_machine import SAMPLE_RATE, RotatingMachine
from tests.detect.models import load_model
from tests.docs.pages import NAMES, read_page, script_of
from tests.train.toy import CHECKOUT

CLIP_S = 10
COUNTS = {("train", "train", "normal"): 5, ("source_test", "test", "normal"): 2,
          ("source_test", "test", "anomaly"): 2}  # fmt: skip


def write_recordings(folder: Path) -> None:
    """Write recordings of one machine, as docs/training.md has them."""
    for seed, ((place, split, label), n_clips) in enumerate(COUNTS.items()):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(n_clips):
            machine = RotatingMachine(10 * seed + number)
            samples = machine.process(CLIP_S * SAMPLE_RATE, faulty=label == "anomaly")
            name = f"section_00_source_{split}_{label}_{number:04d}_any_text.wav"
            soundfile.write(folder / place / name, samples, SAMPLE_RATE, subtype="PCM_16")


@pytest.mark.slow
def test_documented_training_makes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fit, evaluate and export, typed one after the other, lead from recordings to a model."""
    write_recordings(tmp_path / "fan")
    (tmp_path / "train").symlink_to(CHECKOUT / "train")
    monkeypatch.chdir(tmp_path)

    for line in script_of("docs/training.md").splitlines():
        assert line.startswith("python -m train ")
        monkeypatch.setattr(sys, "argv", shlex.split(line)[2:])
        with pytest.raises(SystemExit) as done:
            train.cli.main()
        assert done.value.code == 0, capsys.readouterr().err

    assert "AUC" in capsys.readouterr().out
    assert (tmp_path / "runs" / "fan" / "report.html").exists()
    assert load_model(tmp_path / "fan.onnx").document


def test_commands_and_options_of_the_trainer_exist() -> None:
    """Every command and option of the trainer that the documentation uses is there."""
    uses = {
        (page, use)
        for page in NAMES
        for use in re.findall(r"-m train ((?:[a-z]+)(?: [^`\n#|]+)?)", read_page(page))
    }
    wrong = []
    for page, use in uses:
        name, *words = shlex.split(use)
        command = vars(train.cli)["_cli"].commands.get(name)
        options = {one for parameter in command.params for one in parameter.opts} if command else ()
        unknown = [word for word in words if word.startswith("--") and word not in options]
        if command is None or unknown:
            wrong.append((page, use))

    assert len(uses) > 5
    assert wrong == []
