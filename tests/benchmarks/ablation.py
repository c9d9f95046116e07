"""``python -m tests.benchmarks.ablation 'bench/draw-{seed}/fan'``: what each part of `edge` brings.

Not for the draws that results are reported on: it compares by the labels of test clips.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edgeasd.baseline.covariance import MahalanobisRecipe
from edgeasd.detect.scoring import clip_score
from train.data.datasets import read_clips, section_names
from train.data.windows import windows_of_clips
from train.networks.model import Statistics
from train.recipe.recipe import load_recipe
from train.scoring.metrics import measure, official_score
from train.scoring.scoring import ClipOutputs, learn_normal_of, make_scorings, run_clips, runner

EDGE = load_recipe(Path(__file__).parents[2] / "train" / "recipes" / "edge.toml")
PLAIN = MahalanobisRecipe()
WHOLE = EDGE.mahalanobis
PIECES = replace(PLAIN, scatter_windows=WHOLE.scatter_windows)
VARIANTS = {
    "covariance within the source domain": replace(PLAIN, domain_scatter=False),
    "+ domain scatter (`logmel-mahalanobis`)": PLAIN,
    "+ domain scatter, pieces": PIECES,
    "+ domain scatter, pieces, taper": replace(PIECES, taper=WHOLE.taper),
    "+ domain scatter, prior": replace(PLAIN, anomaly_prior=True),
    "+ domain scatter, pieces, prior": replace(PIECES, anomaly_prior=True),
    "+ domain scatter, pieces, taper, prior": replace(WHOLE, source_weight=0.0),
    "all, and the source's own distance (`edge`)": WHOLE,
    "all but domain scatter": replace(WHOLE, domain_scatter=False),
    "all but pieces": replace(WHOLE, scatter_windows=0),
    "all but prior": replace(WHOLE, anomaly_prior=False),
}


def outputs_of(folder: Path) -> list[ClipOutputs]:
    """Return the embeddings of the clips in *folder*."""
    windows = windows_of_clips(read_clips(folder).clips, EDGE.features, EDGE.window)
    network = Statistics(EDGE.features.n_mels, EDGE.network.pooling)
    rows = np.concatenate([one.rows for one in windows if one.clip.split == "train"])
    network.standardise.learn(torch.from_numpy(rows), scale=EDGE.network.standardise)
    return run_clips(runner(network.eval()), windows, str(folder))


def figures(outputs: list[ClipOutputs], variant: MahalanobisRecipe) -> tuple[float, float, float]:
    """Return official score, and AUC of source and target domain."""
    recipe = replace(EDGE, mahalanobis=variant)
    fitted = [one for one in outputs if one.clip.split == "train"]
    tests = [one for one in outputs if one.clip.split == "test"]
    sections = section_names(one.clip for one in fitted)
    normal = learn_normal_of("mahalanobis", fitted, sections, recipe)
    scorings = make_scorings("mahalanobis", sections, normal, recipe)
    scores = [clip_score(scorings[one.clip.section], one.outputs) for one in tests]
    measures = measure([one.clip for one in tests], scores, [False] * len(tests))
    source, target = (
        statistics.fmean(one.auc for one in measures if one.domain == domain)
        for domain in ("source", "target")
    )
    return official_score(measures), source, target


def main() -> None:
    """Print a row for each variant: mean and standard deviation over the draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="folder of one machine type; '{seed}' is replaced")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 10)))
    args = parser.parse_args()
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in VARIANTS}
    for seed in args.seeds:
        outputs = outputs_of(Path(args.data.replace("{seed}", str(seed))))
        for name, variant in VARIANTS.items():
            rows[name].append(figures(outputs, variant))
    print("| variant | official score | AUC source | AUC target |")
    print("| --- | --- | --- | --- |")
    for name, draws in rows.items():
        cells = (
            f"{statistics.fmean(each):.3f} ± {statistics.stdev(each):.3f}"
            for each in zip(*draws, strict=True)
        )
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
