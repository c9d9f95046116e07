"""Renders the simulated machine to recordings, for recipes that train on it."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from edgeasd.capture.simulator.rotating_machine import SAMPLE_RATE, RotatingMachine
from edgeasd.common.errors import ConfigError
from edgeasd.common.files.whole_file import exclusively
from train.console import tracked
from train.recipe.recipe import Recipe
from train.recipe.tables import SimulatorRecipe

logger = logging.getLogger(__name__)

_CLIP_S = 10
_FIRST_SEED = 1_000_000
"""First seed of the simulator for training, far from the seeds of `edgeasd demo`, which must not
play sound that was trained on."""


@dataclass(frozen=True, slots=True)
class _Rendering:
    path: Path
    section: int
    seed: int
    faulty: bool


def simulated_data(recipe: Recipe, folder: Path) -> Path:
    """Render the clips of *recipe* below *folder*, unless they exist, and return their folder.

    Raises:
        ConfigError: If the recipe does not simulate its data.
    """
    if recipe.simulator is None:
        raise ConfigError(
            f"recipe {recipe.name} does not simulate its data; name a folder of clips with --data"
        )
    clips = folder / "simulated_fan"
    render_clips(clips, recipe.simulator, recipe.seed)
    return clips


def render_clips(folder: Path, recipe: SimulatorRecipe, seed: int) -> None:
    """Write the clips of the recipe to *folder* in the layout of DCASE 2021, unless it exists.

    Each clip is a separate recording, with its own seed of the simulator.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Another process that trains the same recipe waits for these clips and uses them.
    with exclusively(folder, patience_s=math.inf):
        if not folder.exists():
            _render_clips(folder, recipe, seed)


def _render_clips(folder: Path, recipe: SimulatorRecipe, seed: int) -> None:
    draft = folder.with_name(folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    renderings = list(_plan(draft, recipe, seed))
    for one in tracked(renderings, "simulate", len(renderings)):
        one.path.parent.mkdir(parents=True, exist_ok=True)
        machine = RotatingMachine(one.seed, one.section)
        samples = machine.process(_CLIP_S * SAMPLE_RATE, faulty=one.faulty)
        soundfile.write(one.path, samples, SAMPLE_RATE, subtype="PCM_16")
    draft.rename(folder)
    logger.info("%s: %d clips of the simulated machine", folder, len(renderings))


def _plan(folder: Path, recipe: SimulatorRecipe, seed: int) -> Iterator[_Rendering]:
    kinds = (
        ("train", "train", "normal", recipe.n_train),
        ("source_test", "test", "normal", recipe.n_test),
        ("source_test", "test", "anomaly", recipe.n_test),
    )
    clip_seed = _FIRST_SEED * (seed + 1)
    for section in range(recipe.n_sections):
        for place, split, label, n_clips in kinds:
            for number in range(n_clips):
                name = f"section_{section:02d}_source_{split}_{label}_{number:04d}_simulated.flac"
                yield _Rendering(folder / place / name, section, clip_seed, label == "anomaly")
                clip_seed += 1
