"""The measures of DCASE 2021 Task 2."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from edgeasd.common.errors import EdgeasdError
from train.data.clips import Clip

MAX_FALSE_POSITIVE_RATE = 0.1
MEASURES = ("auc", "pauc", "precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class Measures:
    """How well normal and anomalous clips are told apart in one section and domain.

    Attributes:
        section: Name of the section, for example ``00``.
        domain: ``source`` or ``target``.
        n_normal: Number of normal test clips.
        n_anomaly: Number of anomalous test clips.
        auc: Area under the ROC curve.
        pauc: Partial AUC up to a false positive rate of 0.1, standardised (McClish): 0.5 is chance.
        precision: Precision of the decisions; 0 if none was an alarm.
        recall: Recall of the decisions.
        f1: Harmonic mean of precision and recall.
    """

    section: str
    domain: str
    n_normal: int
    n_anomaly: int
    auc: float
    pauc: float
    precision: float
    recall: float
    f1: float


def measure(
    clips: Sequence[Clip], scores: Sequence[float], decisions: Sequence[bool]
) -> list[Measures]:
    """Return the measures of each section and domain, in order.

    Raises:
        EdgeasdError: If one of them has no normal or no anomalous clip.
    """
    groups = sorted({(clip.section, clip.domain) for clip in clips})
    return [
        _measure_group(
            *group,
            np.array([clip.label == "anomaly" for clip in clips])[chosen],
            np.asarray(scores)[chosen],
            np.asarray(decisions)[chosen],
        )
        for group in groups
        for chosen in [[i for i, c in enumerate(clips) if (c.section, c.domain) == group]]
    ]


def official_score(measures: Iterable[Measures]) -> float:
    """Return the harmonic mean of every AUC and pAUC.

    References:
        Kawaguchi et al. (2021), Description and discussion on DCASE 2021 challenge task 2.
    """
    return statistics.harmonic_mean([value for one in measures for value in (one.auc, one.pauc)])


def mean_of(measures: Sequence[Measures], mean: Callable[[list[float]], float]) -> dict[str, float]:
    """Return the *mean* of each measure over sections and domains."""
    return {name: mean([getattr(one, name) for one in measures]) for name in MEASURES}


def _measure_group(
    section: str,
    domain: str,
    anomalous: np.ndarray[tuple[int], np.dtype[np.bool_]],
    scores: np.ndarray[tuple[int], np.dtype[np.float64]],
    decisions: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> Measures:
    n_anomaly = int(anomalous.sum())
    n_normal = len(anomalous) - n_anomaly
    if not n_anomaly or not n_normal:
        raise EdgeasdError(
            f"section {section}, {domain} domain: has {n_normal} normal and {n_anomaly} anomalous "
            "test clips and must have at least one of each"
        )
    precision, recall, f1, _ = precision_recall_fscore_support(
        anomalous, decisions, average="binary", zero_division=0.0
    )
    return Measures(
        section=section,
        domain=domain,
        n_normal=n_normal,
        n_anomaly=n_anomaly,
        auc=float(roc_auc_score(anomalous, scores)),
        pauc=float(roc_auc_score(anomalous, scores, max_fpr=MAX_FALSE_POSITIVE_RATE)),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
    )
