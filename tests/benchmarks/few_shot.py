"""``python -m tests.benchmarks.few_shot FOLDER``: AUC with few normal clips to learn from.

Draws a few normal clips of one machine for training, tests on all others, again and again, and
prints mean and standard deviation of the AUC, of each recipe that trains no network.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from edgeasd.detect.scoring import clip_score
from train.data.datasets import read_clips, section_names
from train.data.windows import ClipWindows, windows_of_clips
from train.networks.model import Statistics
from train.recipe.recipe import Recipe, load_recipe
from train.scoring.scoring import learn_normal_of, make_scorings, run_clips, runner

RECIPES = Path(__file__).parents[2] / "train" / "recipes"
NAMES = ("logmel-nn", "logmel-mahalanobis", "edge")


def auc_of(recipe: Recipe, fitted: Sequence[ClipWindows], tests: Sequence[ClipWindows]) -> float:
    """Return the AUC over *tests* of what *recipe* learns from *fitted*."""
    network = Statistics(recipe.features.n_mels, recipe.network.pooling)
    rows = torch.from_numpy(np.concatenate([one.rows for one in fitted]))
    network.standardise.learn(rows, scale=recipe.network.standardise)
    run = runner(network.eval())
    sections = section_names(one.clip for one in fitted)
    method = recipe.scoring.method
    normal = learn_normal_of(method, run_clips(run, fitted, "fit"), sections, recipe)
    scorings = make_scorings(method, sections, normal, recipe)
    outputs = run_clips(run, tests, "test")
    scores = [clip_score(scorings[one.clip.section], one.outputs) for one in outputs]
    return float(roc_auc_score([one.clip.label == "anomaly" for one in outputs], scores))


def main() -> None:
    """Print a line for each recipe."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of one machine type with one section")
    parser.add_argument("--n-train", type=int, nargs="+", default=[5], help="normal clips")
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    clips = read_clips(args.folder).clips
    for name in NAMES:
        recipe = load_recipe(RECIPES / f"{name}.toml")
        windows = windows_of_clips(clips, recipe.features, recipe.window)
        normal = [one for one in windows if one.clip.label == "normal"]
        anomalous = [one for one in windows if one.clip.label == "anomaly"]
        for n_train in args.n_train:
            aucs = []
            for draw in range(args.draws):
                order = np.random.default_rng(draw).permutation(len(normal))
                fitted = [normal[row] for row in order[:n_train]]
                rest = [normal[row] for row in order[n_train:]]
                aucs.append(auc_of(recipe, fitted, [*rest, *anomalous]))
            print(
                f"{name:20} {n_train:3} clips, {args.draws} draws: "
                f"AUC {statistics.fmean(aucs):.3f} ± {statistics.stdev(aucs):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
