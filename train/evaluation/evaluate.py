"""Evaluates a trained network on labelled test clips, and writes the result files of DCASE."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeasd.common.errors import EdgeasdError
from edgeasd.detect.model.document import BY_DISTANCE
from edgeasd.detect.scoring import clip_score
from train.data.clips import Clip
from train.data.datasets import read_clips
from train.data.windows import windows_of_clips
from train.recipe.tables import CLASSIFIERS
from train.report.page import ReportInput, write_report
from train.report.plots import ScoredClip
from train.runs.run import FittedRun, load_run, write_atomically, write_csv
from train.scoring.metrics import MEASURES, Measures, mean_of, measure, official_score
from train.scoring.scoring import (
    ClipOutputs,
    learn_normal_of,
    make_scorings,
    mean_embeddings,
    normal_scores,
    run_clips,
    runner,
)
from train.scoring.threshold import choose_thresholds

METRICS = "metrics.json"
"""File that `evaluate` writes last to the folder of a run."""
_RESULT_TITLES = ("section", "domain", "AUC", "pAUC", "precision", "recall", "F1 score")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of one scoring method on the test clips.

    Attributes:
        method: Name of the method; see `train.recipe.recipe.ScoringRecipe`.
        measures: Measures of each section and domain.
        scores: Scores of the test clips, in the order of their paths.
        decisions: Whether the score of each test clip reaches the threshold of its section.
        thresholds: Threshold of each section.
    """

    method: str
    measures: list[Measures]
    scores: list[float]
    decisions: list[bool]
    thresholds: dict[str, float]

    def to_table(self) -> dict[str, Any]:
        """Return the measures and their means in the form of metrics.json."""
        return {
            "official_score": official_score(self.measures),
            "arithmetic_mean": mean_of(self.measures, statistics.fmean),
            "harmonic_mean": mean_of(self.measures, statistics.harmonic_mean),
            "sections": [asdict(one) for one in self.measures],
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Outputs:
    """Output of the network for all clips, computed once for all methods."""

    fitted: list[ClipOutputs]
    held_out: list[ClipOutputs]
    tests: list[ClipOutputs]


def evaluate(run_folder: Path, data_folder: Path | None) -> list[Evaluation]:
    """Score the test clips with the weights of the last epoch, and write the results.

    Nothing is chosen by test clips: references and thresholds come from training clips.  Writes
    metrics.json to the folder of the run and, for the method of the recipe, report.html and the
    result files of DCASE.

    Args:
        run_folder: Folder of the run.
        data_folder: Folder of the data, if it was moved.

    Returns:
        The evaluation by the method of the recipe, then those by other methods that can be used,
        for information.

    Raises:
        EdgeasdError: If there is no such run, or there are no test clips.
    """
    fitted = load_run(run_folder, data_folder)
    clips = [clip for clip in read_clips(fitted.folder).clips if clip.split == "test"]
    clips = [clip for clip in clips if clip.section in fitted.data.sections]
    if not clips:
        raise EdgeasdError(
            f"{fitted.folder}: holds no test clips of sections {', '.join(fitted.data.sections)}; "
            "put them where train/README.md describes"
        )
    outputs = _run(fitted, clips)
    evaluations = [_evaluate_method(method, fitted, outputs) for method in _methods(fitted)]
    _write_report(run_folder, fitted, evaluations[0], outputs)
    write_results(
        run_folder / "dcase",
        clips,
        evaluations[0].scores,
        evaluations[0].decisions,
        evaluations[0].measures,
    )
    _write_metrics(
        run_folder, fitted, evaluations
    )  # last, because it marks the evaluation as complete
    return evaluations


def _methods(fitted: FittedRun) -> list[str]:
    recipe = fitted.recipe
    methods = [recipe.scoring.method]
    if recipe.network.kind in CLASSIFIERS:
        methods += ["log_odds"] if recipe.classifies and len(fitted.data.sections) > 1 else []
        methods += BY_DISTANCE
    return list(dict.fromkeys(methods))


def _run(fitted: FittedRun, clips: Sequence[Clip]) -> _Outputs:
    run = runner(fitted.network)
    tests = windows_of_clips(clips, fitted.recipe.features, fitted.recipe.window)
    return _Outputs(
        fitted=run_clips(run, fitted.data.fitted, "references"),
        held_out=run_clips(run, fitted.data.held_out, "thresholds"),
        tests=run_clips(run, tests, "test clips"),
    )


def _evaluate_method(method: str, fitted: FittedRun, outputs: _Outputs) -> Evaluation:
    sections, recipe = fitted.data.sections, fitted.recipe
    normal = learn_normal_of(method, outputs.fitted, sections, recipe)
    scorings = make_scorings(method, sections, normal, recipe)
    normal_sound = normal_scores(method, outputs.fitted, outputs.held_out, scorings, recipe)
    thresholds = choose_thresholds(normal_sound, recipe.scoring.tail_probability)
    by_section = {name: one.threshold for name, one in zip(sections, thresholds, strict=True)}
    scores = [clip_score(scorings[one.clip.section], one.outputs) for one in outputs.tests]
    decisions = [
        score >= by_section[one.clip.section]
        for one, score in zip(outputs.tests, scores, strict=True)
    ]
    measures = measure([one.clip for one in outputs.tests], scores, decisions)
    return Evaluation(method, measures, scores, decisions, by_section)


def _write_metrics(run_folder: Path, fitted: FittedRun, evaluations: Sequence[Evaluation]) -> None:
    table = {
        "recipe": asdict(fitted.recipe),
        "epochs": len(fitted.history),
        "machine_type": fitted.info.machine_type,
        "data": str(fitted.folder.resolve()),
        "methods": {one.method: one.to_table() for one in evaluations},
    }
    content = json.dumps(table, indent=1) + "\n"
    write_atomically(run_folder / METRICS, content.encode())


def _write_report(
    run_folder: Path, fitted: FittedRun, evaluation: Evaluation, outputs: _Outputs
) -> None:
    recipe, info = fitted.recipe, fitted.info
    facts = {
        "scoring": evaluation.method,
        "official score": f"{official_score(evaluation.measures):.4f}",
        "epochs": str(len(fitted.history)),
        "training": f"{info.n_clips} clips, {info.n_windows} windows",
        "held out for the threshold": f"{len(info.held_out)} clips",
        "data": info.data,
        "SHA-256 of the data": info.data_digest,
        "SHA-256 of the recipe": info.recipe_digest,
        "commit": info.commit or "unknown",
        "begun": info.created,
        "versions": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }
    write_report(
        run_folder,
        ReportInput(
            title=f"{recipe.name}, {info.machine_type}, seed {recipe.seed}",
            facts=facts,
            recipe=recipe.to_toml(),
            history=fitted.history,
            measures=evaluation.measures,
            thresholds=evaluation.thresholds,
            train=_scored(outputs.fitted, [math.nan] * len(outputs.fitted)),
            tests=_scored(outputs.tests, evaluation.scores),
            features=recipe.features,
        ),
    )


def _scored(clips: Sequence[ClipOutputs], scores: Sequence[float]) -> list[ScoredClip]:
    embeddings = mean_embeddings(clips).astype(np.float32)
    return [
        ScoredClip(one.clip, score, embedding)
        for one, score, embedding in zip(clips, scores, embeddings, strict=True)
    ]


def write_results(
    folder: Path,
    clips: Sequence[Clip],
    scores: Sequence[float],
    decisions: Sequence[bool],
    measures: Sequence[Measures],
) -> None:
    """Write the result files of DCASE 2021 Task 2, as its baselines write them.

    These are scores and decisions of each section and domain, and result.csv.

    Args:
        folder: Folder to write to; created if necessary.
        clips: Test clips of one machine type.
        scores: Score of each clip.
        decisions: Whether each clip is called anomalous.
        measures: Measures of each section and domain.
    """
    for one in measures:
        chosen = [
            (clip.path.name, score, int(decision))
            for clip, score, decision in zip(clips, scores, decisions, strict=True)
            if (clip.section, clip.domain) == (one.section, one.domain)
        ]
        end = f"{clips[0].machine_type}_section_{one.section}_{one.domain}_test.csv"
        write_csv(folder / f"anomaly_score_{end}", [(name, score) for name, score, _ in chosen])
        write_csv(folder / f"decision_result_{end}", [(name, made) for name, _, made in chosen])
    write_csv(folder / "result.csv", _result_rows(clips[0].machine_type, measures))


def _result_rows(machine_type: str, measures: Sequence[Measures]) -> Iterable[Sequence[Any]]:
    yield (machine_type,)
    yield _RESULT_TITLES
    for one in measures:
        yield (one.section, one.domain, *(getattr(one, name) for name in MEASURES))
    yield ("arithmetic mean", "", *mean_of(measures, statistics.fmean).values())
    yield ("harmonic mean", "", *mean_of(measures, statistics.harmonic_mean).values())
