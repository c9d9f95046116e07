"""Scores of clips by the daemon's own scoring, from the network before or after export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import track
from sklearn.cluster import KMeans

from edgeasd.detect.scoring import (
    LogOddsScoring,
    NearestScoring,
    NetworkOutput,
    Scoring,
    clip_score,
)
from edgeasd.stream import Float32Array
from train.console import console
from train.datasets import Clip
from train.features import ClipWindows
from train.model import SectionNet
from train.recipe import Recipe

_BATCH = 64

RunWindows = Callable[[Float32Array], list[NetworkOutput]]
"""Windows, shape ``(n_windows, T, M)``, to the network's output for each."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipOutputs:
    """What the network says of each window of a clip."""

    clip: Clip
    outputs: list[NetworkOutput]


def runner(network: SectionNet) -> RunWindows:
    """Return *network*, in evaluation mode and float32, as a function of windows."""
    # A quarter of the time on the CPU that PyTorch's own layout takes.
    network = network.to(memory_format=torch.channels_last)

    def run(windows: Float32Array) -> list[NetworkOutput]:
        outputs: list[NetworkOutput] = []
        with torch.inference_mode():
            for batch in torch.split(torch.from_numpy(windows).unsqueeze(1), _BATCH):
                embeddings, logits = network(batch.to(memory_format=torch.channels_last))
                outputs += map(NetworkOutput, embeddings.numpy(), logits.numpy())
        return outputs

    return run


def run_clips(run: RunWindows, clips: Sequence[ClipWindows], title: str) -> list[ClipOutputs]:
    """Return the network's outputs for each of *clips*, with a progress bar named *title*."""
    shown = track(clips, title, console=console, transient=True)
    return [ClipOutputs(one.clip, run(one.windows())) for one in shown]


def make_references(
    fitted: Sequence[ClipOutputs], sections: Sequence[str], recipe: Recipe
) -> list[Float32Array]:
    """Return what normal sounds like: embeddings for each section.

    Of the target domain every clip's mean embedding, as there are few and each counts; of the
    source domain k-means centroids, so that many clips do not outweigh them.  Embeddings get
    length 1 first: the distance that they serve is that of directions.

    Args:
        fitted: The training clips but those held out.
        sections: Names.
        recipe: Says how many centroids.

    Returns:
        For each section, shape ``(n_references, n_dims)``.
    """
    return [
        _section_references([one for one in fitted if one.clip.section == name], recipe)
        for name in sections
    ]


def make_scorings(
    method: str, sections: Sequence[str], references: Sequence[Float32Array], recipe: Recipe
) -> dict[str, Scoring]:
    """Return the scoring by *method*, ``log_odds`` or ``nearest``, by names of the sections."""
    scorings: Sequence[Scoring]
    if method == "log_odds":
        scorings = [LogOddsScoring(index) for index in range(len(sections))]
    else:
        scorings = [NearestScoring(each, recipe.scoring.n_neighbours) for each in references]
    return dict(zip(sections, scorings, strict=True))


def score_parts(one: ClipOutputs, scoring: Scoring, n_windows: int) -> list[float]:
    """Return the scores that the daemon could give a clip, without overlap.

    Args:
        one: The clip.
        scoring: The method, for its section.
        n_windows: Windows that a score rests on; a shorter clip gives one score over all it has.
    """
    starts = range(0, max(len(one.outputs) - n_windows, 0) + 1, n_windows)
    return [clip_score(scoring, one.outputs[start : start + n_windows]) for start in starts]


def held_out_scores(
    held_out: Sequence[ClipOutputs], scorings: Mapping[str, Scoring], recipe: Recipe
) -> list[list[float]]:
    """Return the scores of normal sound that was not trained on, for each section."""
    n_windows = recipe.scoring.clip_windows
    return [
        [
            score
            for one in held_out
            if one.clip.section == section
            for score in score_parts(one, scoring, n_windows)
        ]
        for section, scoring in scorings.items()
    ]


def _section_references(clips: Sequence[ClipOutputs], recipe: Recipe) -> Float32Array:
    directions: dict[str, list[Float32Array]] = {"source": [], "target": []}
    for one in clips:
        mean = np.mean([output.embedding for output in one.outputs], axis=0)
        directions[one.clip.domain].append(mean / np.linalg.norm(mean))
    references = directions["target"]
    if source := directions["source"]:
        n_clusters = min(recipe.scoring.n_centroids, len(source))
        clusters = KMeans(n_clusters, n_init=10, random_state=recipe.seed).fit(np.stack(source))
        references = [*references, *clusters.cluster_centers_]
    return np.stack(references).astype(np.float32)
