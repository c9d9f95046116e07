"""What a run is trained on: windows, and which clips are kept from training."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeasd.errors import EdgeasdError
from train.datasets import Clip, read_clips, section_names
from train.features import ClipWindows, windows_of_clips
from train.recipe import Recipe

logger = logging.getLogger(__name__)

_ENOUGH_CLIPS = 10
"""A section with this many gives up two, so that the spread of its scores can be estimated."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The training clips of one machine type.

    Attributes:
        machine_type: For example ``fan``.
        sections: Names, in the order of the logits.
        fitted: Clips that the networks and references are made from.
        held_out: Clips of the source domain that only the threshold is made from.
        digest: SHA-256 of names and samples of all of them.
    """

    machine_type: str
    sections: list[str]
    fitted: list[ClipWindows]
    held_out: list[ClipWindows]
    digest: str

    def section_index(self, clip: Clip) -> int:
        """Return the index of the section of *clip*."""
        return self.sections.index(clip.section)


def load_training_data(folder: Path, recipe: Recipe) -> TrainingData:
    """Return the training clips in *folder* as windows; the same for the same recipe and data.

    Raises:
        EdgeasdError: If there are none, or the recipe cannot be trained on them.
    """
    clips = [clip for clip in read_clips(folder).clips if clip.split == "train"]
    if not clips:
        raise EdgeasdError(f"{folder}: holds no training clips; they belong in train/")
    sections = section_names(clips)
    _check_sections(sections, recipe)
    held_out = choose_held_out(clips, recipe.scoring.holdout, recipe.seed)
    windows = windows_of_clips(clips, recipe.features, recipe.window)
    return TrainingData(
        machine_type=clips[0].machine_type,
        sections=sections,
        fitted=[one for one in windows if one.clip not in held_out],
        held_out=[one for one in windows if one.clip in held_out],
        digest=_digest(windows),
    )


def choose_held_out(clips: Sequence[Clip], part: float, seed: int) -> set[Clip]:
    """Return a seeded choice of *part* of the source training clips of each section.

    At least two of a section that has ten; at least one always remains for training.
    """
    chosen: set[Clip] = set()
    for index, section in enumerate(section_names(clips)):
        candidates = sorted(
            (clip for clip in clips if clip.section == section and clip.domain == "source"),
            key=lambda clip: clip.path.name,
        )
        least = 2 if len(candidates) >= _ENOUGH_CLIPS else 0
        n_chosen = min(max(round(part * len(candidates)), least), max(len(candidates) - 1, 0))
        rng = np.random.default_rng([seed, index])
        chosen.update(candidates[i] for i in rng.permutation(len(candidates))[:n_chosen])
    return chosen


def _check_sections(sections: Sequence[str], recipe: Recipe) -> None:
    if len(sections) == 1 and recipe.classifies:
        raise EdgeasdError(
            f"sections={sections[0]} must be at least two: to tell one section from nothing else "
            "teaches nothing; add recordings of other machines as further sections, "
            "or make a model without training with 'edgeasd learn'"
        )


def _digest(windows: Sequence[ClipWindows]) -> str:
    names = sorted(f"{one.clip.path.name} {one.digest}" for one in windows)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
