"""Scores of clips, by the daemon's own scoring and the network before or after export."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgeasd.baseline.covariance import NormalSound
from edgeasd.common.types import Float32Array, Float64Array
from edgeasd.detect.model.document import ScoringDocument
from edgeasd.detect.model.methods import make_scoring
from edgeasd.detect.scoring import NetworkOutput, Scoring, clip_score, embeddings_of
from train.console import tracked
from train.data.clips import Clip
from train.data.windows import ClipWindows
from train.networks.model import Network
from train.recipe.recipe import Recipe
from train.scoring.clusters import ClipEmbeddings, learn_normal

_BATCH = 64
_N_FOLDS = 10

RunWindows = Callable[[Float32Array], list[NetworkOutput]]
"""Function from windows, shape ``(n_windows, T, M)``, to the network's output for each."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipOutputs:
    """The network's output for each window of a clip."""

    clip: Clip
    outputs: list[NetworkOutput]


def runner(network: Network) -> RunWindows:
    """Return *network*, in evaluation mode and float32, as a function of windows."""
    # On the CPU this layout takes a quarter of the time of PyTorch's default.
    network = network.to(memory_format=torch.channels_last)

    def run(windows: Float32Array) -> list[NetworkOutput]:
        outputs: list[NetworkOutput] = []
        with torch.inference_mode():
            for batch in torch.split(torch.from_numpy(windows).unsqueeze(1), _BATCH):
                embeddings, logits = network(batch.to(memory_format=torch.channels_last))
                rows = itertools.repeat(None) if logits is None else logits.numpy()
                outputs += map(NetworkOutput, embeddings.numpy(), rows)
        return outputs

    return run


def run_clips(run: RunWindows, clips: Sequence[ClipWindows], title: str) -> list[ClipOutputs]:
    """Return the network's outputs for each of *clips*, with a progress bar named *title*."""
    shown = tracked(clips, title, len(clips))
    return [ClipOutputs(one.clip, run(one.windows())) for one in shown]


def mean_embeddings(clips: Sequence[ClipOutputs]) -> Float64Array:
    """Return the mean embedding of each of *clips*, shape ``(n_clips, n_dims)``."""
    return np.stack([embeddings_of(one.outputs).mean(axis=0) for one in clips])


def learn_normal_of(
    method: str, fitted: Sequence[ClipOutputs], sections: Sequence[str], recipe: Recipe
) -> NormalSound | None:
    """Return what *method* needs to know of normal sound, from the outputs of training clips."""
    clips = [ClipEmbeddings(one.clip, embeddings_of(one.outputs)) for one in fitted]
    return learn_normal(method, clips, sections, recipe)


def make_scorings(
    method: str, sections: Sequence[str], normal: NormalSound | None, recipe: Recipe
) -> dict[str, Scoring]:
    """Return the scoring by *method* for each section, by its name."""
    scoring = ScoringDocument(method, recipe.nearest.n_neighbours)
    references = [None] * len(sections) if normal is None else normal.references
    distances = () if normal is None else normal.distances
    return {
        name: make_scoring(scoring, index, references[index], distances)
        for index, name in enumerate(sections)
    }


def score_parts(one: ClipOutputs, scoring: Scoring, n_windows: int) -> list[float]:
    """Return the scores that the daemon could give a clip, without overlap.

    Args:
        one: The clip.
        scoring: Scoring method of the clip's section.
        n_windows: Windows that a score rests on; a shorter clip gives one score over all it has.
    """
    starts = range(0, max(len(one.outputs) - n_windows, 0) + 1, n_windows)
    return [clip_score(scoring, one.outputs[start : start + n_windows]) for start in starts]


def normal_scores(
    method: str,
    fitted: Sequence[ClipOutputs],
    held_out: Sequence[ClipOutputs],
    scorings: Mapping[str, Scoring],
    recipe: Recipe,
) -> list[list[float]]:
    """Return, for each section, scores of normal sound that they were not learned from.

    They are those of the clips held out or, if there are none, of each clip by what the others
    teach.
    """
    if held_out:
        scored = [(one, scorings[one.clip.section]) for one in held_out]
    else:
        scored = list(_cross_scorings(method, fitted, list(scorings), recipe))
    n_windows = recipe.scoring.clip_windows
    return [
        [
            score
            for one, scoring in scored
            if one.clip.section == section
            for score in score_parts(one, scoring, n_windows)
        ]
        for section in scorings
    ]


def _cross_scorings(
    method: str, clips: Sequence[ClipOutputs], sections: Sequence[str], recipe: Recipe
) -> Iterator[tuple[ClipOutputs, Scoring]]:
    """Yield each clip with the scoring learned from the other folds.

    A fold without which a section has no clip is left out.
    """
    seen: Counter[tuple[str, str]] = Counter()
    folds = []
    for one in clips:
        group = (one.clip.section, one.clip.domain)
        folds.append(seen[group] % _N_FOLDS)
        seen[group] += 1
    for fold in range(min(_N_FOLDS, max(seen.values()))):
        rest = [one for one, number in zip(clips, folds, strict=True) if number != fold]
        if {one.clip.section for one in rest} < set(sections):
            continue
        normal = learn_normal_of(method, rest, sections, recipe)
        scorings = make_scorings(method, sections, normal, recipe)
        for one, number in zip(clips, folds, strict=True):
            if number == fold:
                yield one, scorings[one.clip.section]
