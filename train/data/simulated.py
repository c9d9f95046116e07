"""The simulated machine as recordings, for recipes that need none of their own."""

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
"""Far from the seeds that people give `edgeasd demo`: it must not play what was trained on."""


@dataclass(frozen=True, slots=True)
class _Rendering:
    path: Path
    section: int
    seed: int
    faulty: bool


def simulated_data(recipe: Recipe, folder: Path) -> Path:
    """Return the folder of the clips that *recipe* makes, below *folder*; they are made once.

    Raises:
        ConfigError: If the recipe makes none.
    """
    if recipe.simulator is None:
        raise ConfigError(
            f"recipe {recipe.name} makes no data of its own; name a folder of clips with --data"
        )
    clips = folder / "simulated_fan"
    render_clips(clips, recipe.simulator, recipe.seed)
    return clips


def render_clips(folder: Path, recipe: SimulatorRecipe, seed: int) -> None:
    """Write the recipe's clips below *folder* in the layout of DCASE 2021, unless they are there.

    Each clip is a recording of its own: no two share a seed of the simulator.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Who trains the same beside waits for these clips, and uses them.
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
