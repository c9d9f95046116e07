"""``python -m tests.benchmarks.new_domain 'bench/draw-{seed}/fan'``: ten clips as references.

A model that was trained in one room is taken to another.  Its official score of the target domain,
before and after ten clips of normal sound there were added on site, without training.  Draws are
made by ``make_fan.py --target-train 10``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeasd.baseline.adaptation import adapted_distances, adapted_references
from edgeasd.baseline.covariance import MahalanobisRecipe, NormalSound, learn_mahalanobis
from edgeasd.baseline.learning import RECIPE
from edgeasd.common.types import Float64Array
from edgeasd.detect.model.document import (
    ModelDocument,
    ScoringDocument,
    SectionDocument,
)
from edgeasd.detect.model.methods import make_scoring
from edgeasd.detect.scoring import Scoring, clip_score
from tests.benchmarks.ablation import EDGE, outputs_of
from train.scoring.metrics import measure, official_score
from train.scoring.scoring import ClipOutputs

SECTIONS = ("00", "01", "02", "03")
Groups = list[dict[str, list[Float64Array]]]


def groups_of(outputs: Sequence[ClipOutputs]) -> Groups:
    """Return the embeddings of the training clips of each section, by domain."""
    groups: Groups = [{"source": [], "target": []} for _ in SECTIONS]
    for one in outputs:
        if one.clip.split == "train":
            rows = np.stack([output.embedding for output in one.outputs]).astype(np.float64)
            groups[SECTIONS.index(one.clip.section)][one.clip.domain].append(rows)
    return groups


def document_of(normal: NormalSound) -> ModelDocument:
    """Return the document of a model that knows *normal*."""
    return ModelDocument(
        id="fan",
        version="1",
        created="2026-11-22T16:15:34Z",
        machine_type="fan",
        features=EDGE.features,
        window=EDGE.window,
        scoring=ScoringDocument("mahalanobis", clip_windows=EDGE.scoring.clip_windows),
        sections=tuple(
            SectionDocument(f"{index:02}", 1.0, 0.5, each)
            for index, each in enumerate(normal.references)
        ),
        distances=normal.distances,
    )


def scoring_of(document: ModelDocument, section: int) -> Scoring:
    """Return the scoring of a section."""
    references = document.sections[section].references
    return make_scoring(document.scoring, section, references, document.distances)


def with_new(document: ModelDocument, section: int, clips: list[Float64Array]) -> ModelDocument:
    """Return *document* with *clips* of new normal sound in a section."""
    sections = list(document.sections)
    own = sections[section].references
    assert own is not None
    extended = own.extended(adapted_references(document, clips))
    sections[section] = replace(sections[section], references=extended)
    distances = adapted_distances(document, section, clips)
    return replace(document, sections=tuple(sections), distances=distances)


def target_score(outputs: Sequence[ClipOutputs], scorings: Sequence[Scoring]) -> float:
    """Return the official score of the target domain."""
    tests = [one for one in outputs if one.clip.split == "test" and one.clip.domain == "target"]
    scores = [clip_score(scorings[SECTIONS.index(one.clip.section)], one.outputs) for one in tests]
    return official_score(measure([one.clip for one in tests], scores, [False] * len(tests)))


def figures(
    outputs: Sequence[ClipOutputs], recipe: MahalanobisRecipe, *, alone: bool
) -> list[float]:
    """Return the target domain's score before and after, and seconds per section.

    Args:
        outputs: Of all clips.
        recipe: Of the model in the first room.
        alone: Whether each section has a model of its own.
    """
    groups = groups_of(outputs)
    sources = [{"source": group["source"]} for group in groups]
    together = None if alone else document_of(learn_mahalanobis(sources, recipe))
    before, after = [], []
    seconds = 0.0
    for index, group in enumerate(groups):
        document = together or document_of(learn_mahalanobis([sources[index]], recipe))
        section = 0 if alone else index
        before.append(scoring_of(document, section))
        began = time.perf_counter()
        after.append(scoring_of(with_new(document, section, group["target"]), section))
        seconds += time.perf_counter() - began
    return [target_score(outputs, before), target_score(outputs, after), seconds / len(groups)]


def main() -> None:
    """Print a row for each model: mean and standard deviation over the draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="folder of one machine type; '{seed}' is replaced")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2021, 2022, 2023])
    args = parser.parse_args()
    models = {
        "`edgeasd learn`, a model for each section": (RECIPE, True),
        "`edge`, trained on the source domain": (EDGE.mahalanobis, False),
        "`logmel-mahalanobis`, trained on the source domain": (MahalanobisRecipe(), False),
    }
    draws = [outputs_of(Path(args.data.replace("{seed}", str(seed)))) for seed in args.seeds]
    print("| model | before | after | time |")
    print("| --- | --- | --- | --- |")
    for name, (recipe, alone) in models.items():
        rows = [figures(outputs, recipe, alone=alone) for outputs in draws]
        before, after, seconds = zip(*rows, strict=True)
        cells = [f"{statistics.fmean(e):.3f} ± {statistics.stdev(e):.3f}" for e in (before, after)]
        print(f"| {name} | {' | '.join(cells)} | {1000.0 * statistics.fmean(seconds):.0f} ms |")


if __name__ == "__main__":
    main()
