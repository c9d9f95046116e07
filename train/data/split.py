"""Splits the training clips of a run into those to learn from and those for the threshold."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeasd.baseline.covariance import FEW_CLIPS
from edgeasd.common.errors import EdgeasdError
from train.data.clips import AUDIO_SUFFIXES, Clip
from train.data.datasets import read_clips, section_names
from train.data.windows import ClipWindows, windows_of_clips
from train.recipe.recipe import Recipe

logger = logging.getLogger(__name__)

_FEW_FOR_A_NETWORK = 100
"""With fewer training clips a network may learn them by heart."""
_ENOUGH_CLIPS = 10
"""A section with so many clips holds out at least two, to estimate the spread of its scores."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The training clips of one machine type.

    Attributes:
        machine_type: Machine type, for example ``fan``.
        sections: Names of the sections, in the order of the logits.
        fitted: Clips from which networks and references are learned.
        held_out: Clips of the source domain that are used for the threshold only.
        background: Other recordings, which the network learns to distinguish from the machine.
        digest: SHA-256 of the names and samples of all clips.
    """

    machine_type: str
    sections: list[str]
    fitted: list[ClipWindows]
    held_out: list[ClipWindows]
    background: list[ClipWindows]
    digest: str

    def section_index(self, clip: Clip) -> int:
        """Return the index of the section of *clip*."""
        return self.sections.index(clip.section)


def load_training_data(
    folder: Path, recipe: Recipe, background: Path | None = None
) -> TrainingData:
    """Return the training clips of *folder* as windows; the same recipe and data give the same.

    Args:
        folder: Folder of one machine type, or a manifest.
        recipe: Recipe to train by.
        background: Folder of other recordings, at any depth; `None` for none.

    Raises:
        EdgeasdError: If there are no training clips, or the recipe cannot be trained on them.
    """
    clips = [clip for clip in read_clips(folder).clips if clip.split == "train"]
    if not clips:
        raise EdgeasdError(f"{folder}: holds no training clips, only clips for testing")
    sections = section_names(clips)
    others = _background_clips(background, clips[0].machine_type)
    _check_sections(sections, recipe, has_background=bool(others))
    held_out = choose_held_out(clips, recipe.scoring.holdout, recipe.seed)
    windows = windows_of_clips([*clips, *others], recipe.features, recipe.window)
    machine, other = windows[: len(clips)], windows[len(clips) :]
    return TrainingData(
        machine_type=clips[0].machine_type,
        sections=sections,
        fitted=[one for one in machine if one.clip not in held_out],
        held_out=[one for one in machine if one.clip in held_out],
        background=other,
        digest=_digest(windows),
    )


def tell_few_clips(data: TrainingData, recipe: Recipe) -> None:
    """Log the consequences for the recipe if there are few clips."""
    if recipe.trains and len(data.fitted) < _FEW_FOR_A_NETWORK:
        logger.warning(
            "%d training clips are few for a network, which may learn them by heart; compare with "
            "recipe edge, which trains no network",
            len(data.fitted),
        )
    counts = Counter((one.clip.section, one.clip.domain) for one in data.fitted)
    few = [f"{section} {domain} {n}" for (section, domain), n in counts.items() if n < FEW_CLIPS]
    if few and recipe.mahalanobis.scatter_windows:
        logger.info(
            "few clips (%s): the variation of their sound is estimated from pieces of %d windows "
            "of each clip",
            ", ".join(few),
            recipe.mahalanobis.scatter_windows,
        )


def choose_held_out(clips: Sequence[Clip], part: float, seed: int) -> set[Clip]:
    """Return a seeded choice of *part* of the source training clips of each section.

    At least two of a section that has ten are chosen, and at least one is left for training.  With
    a *part* of 0 none is chosen.
    """
    chosen: set[Clip] = set()
    for index, section in enumerate(section_names(clips)):
        candidates = sorted(
            (clip for clip in clips if clip.section == section and clip.domain == "source"),
            key=lambda clip: clip.path.name,
        )
        least = 2 if part > 0 and len(candidates) >= _ENOUGH_CLIPS else 0
        n_chosen = min(max(round(part * len(candidates)), least), max(len(candidates) - 1, 0))
        rng = np.random.default_rng([seed, index])
        chosen.update(candidates[i] for i in rng.permutation(len(candidates))[:n_chosen])
    return chosen


def _check_sections(sections: Sequence[str], recipe: Recipe, *, has_background: bool) -> None:
    if has_background and not recipe.classifies:
        raise EdgeasdError(
            f"recipe {recipe.name} cannot use --background, because it does not learn to "
            "distinguish the machine from anything; leave it out"
        )
    if len(sections) > 1:
        return
    if recipe.scoring.method == "log_odds":
        raise EdgeasdError(
            f"sections={sections[0]} must be at least two for scoring.method='log_odds', because a "
            "softmax over one class is always 1; use recipe edge, or set scoring.method to "
            "'nearest' and give recordings of other machines with --background"
        )
    if recipe.classifies and not has_background:
        raise EdgeasdError(
            f"sections={sections[0]} must be at least two, because a classifier of one section "
            "learns nothing; give recordings of other machines with --background, or use recipe "
            "edge, which needs none"
        )


def _background_clips(folder: Path | None, machine_type: str) -> list[Clip]:
    if folder is None:
        return []
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise EdgeasdError(f"{folder}: holds no WAV or FLAC file; --background needs recordings")
    return [Clip(path, machine_type, "background", "source", "train", "normal") for path in paths]


def _digest(windows: Sequence[ClipWindows]) -> str:
    names = sorted(f"{one.clip.path.name} {one.digest}" for one in windows)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
