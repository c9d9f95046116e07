"""The result files of DCASE 2021 Task 2, as its baselines write them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from train.data.datasets import Clip
from train.runs.run import write_csv
from train.scoring.metrics import MEASURES, Measures, mean_of

_TITLES = ("section", "domain", "AUC", "pAUC", "precision", "recall", "F1 score")


def write_results(
    folder: Path,
    clips: Sequence[Clip],
    scores: Sequence[float],
    decisions: Sequence[bool],
    measures: Sequence[Measures],
) -> None:
    """Write scores and decisions of each section and domain, and result.csv, to *folder*.

    Args:
        folder: Made if need be.
        clips: Test clips of one machine type.
        scores: Of each clip.
        decisions: Whether each clip is called anomalous.
        measures: Of each section and domain.
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
    yield _TITLES
    for one in measures:
        yield (one.section, one.domain, *(getattr(one, name) for name in MEASURES))
    yield ("arithmetic mean", "", *mean_of(measures, statistics.fmean).values())
    yield ("harmonic mean", "", *mean_of(measures, statistics.harmonic_mean).values())
