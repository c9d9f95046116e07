"""A data set and a recipe so small that a run takes seconds."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

import tests.commands
import train.__main__
import train.runs.fit
from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.capture.simulator.rotating_machine import SAMPLE_RATE, RotatingMachine
from edgeasd.common.types import AudioBlock
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Pipeline
from edgeasd.detect.windows import WindowSpec
from train.recipe.recipe import Recipe
from train.recipe.tables import (
    LossRecipe,
    NearestRecipe,
    NetworkRecipe,
    OptimiserRecipe,
    ScoringRecipe,
)

CHECKOUT = Path(__file__).parents[2]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}

CLIP_S = 2.9  # 89 frames, 13 windows every 2
SECTIONS = ("00", "01")
COUNTS = {
    ("train", "source", "train", "normal"): 10,
    ("train", "target", "train", "normal"): 2,
    ("source_test", "source", "test", "normal"): 3,
    ("source_test", "source", "test", "anomaly"): 3,
    ("target_test", "target", "test", "normal"): 2,
    ("target_test", "target", "test", "anomaly"): 2,
}

RECIPE = Recipe(
    name="toy",
    scoring=ScoringRecipe(method="nearest", clip_windows=13),
    seed=7,
    window=WindowSpec(hop_frames=2, median_frames=3),
    network=NetworkRecipe(width=0.1),
    nearest=NearestRecipe(n_centroids=4),
    optimiser=OptimiserRecipe(epochs=1, batch_size=8),
)
CNN_RECIPE = replace(RECIPE, name="toy-cnn", loss=LossRecipe(reconstruction=0.0, contrastive=0.0))


def write_clips(folder: Path) -> Path:
    """Write clips of two simulated machines in the layout of DCASE 2021; return the folder."""
    seed = 0
    for (place, domain, split, label), n_clips in COUNTS.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for section in SECTIONS:
            for number in range(n_clips):
                name = f"section_{section}_{domain}_{split}_{label}_{number:04d}_toy.wav"
                write_clip(folder / place / name, seed, int(section), faulty=label == "anomaly")
                seed += 1
    return folder


def write_clip(path: Path, seed: int, section: int = 0, *, faulty: bool = False) -> None:
    """Write one clip."""
    samples = RotatingMachine(seed, section).process(round(CLIP_S * SAMPLE_RATE), faulty=faulty)
    soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")


def run_trainer(*args: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m train`` in this process."""
    log = logging.getLogger("train")
    level = log.level
    try:
        return tests.commands.in_this_process(train.__main__.main, *args)
    finally:
        log.setLevel(level)


def run_team(*args: object) -> subprocess.CompletedProcess[str]:
    """Run two processes by ``torchrun`` in the checkout, on a port that is free."""
    return run_python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *args)


def run_python(*args: object) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout, with one thread."""
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=CHECKOUT,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=False,
    )


def pipeline_score(model: Model, path: Path) -> float:
    """Return the one score that the daemon makes of a toy clip."""
    section = model.section_index(path.name.split("_")[1])
    pipeline = Pipeline(model, section, AlarmSpec(1e9, 1e9))
    (detection,) = pipeline.process(AudioBlock(read_clip(path), 0))
    return detection.score.value


def labelled_clips(folder: Path) -> list[Path]:
    """Return the test clips in *folder*, in the order of an evaluation."""
    return [
        path
        for name in ("source", "target")
        for path in sorted((folder / f"{name}_test").iterdir())
    ]


def interrupt_at_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C in the given optimiser step from now; an epoch of the toy has 32."""
    steps = iter(range(1, step + 1))
    unpatched = vars(train.runs.fit)["total_loss"]

    def total_loss(*args: Any) -> Any:
        if next(steps) == step:
            raise KeyboardInterrupt
        return unpatched(*args)

    monkeypatch.setattr(train.runs.fit, "total_loss", total_loss)
