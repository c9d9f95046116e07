from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from edgeasd.common.errors import EdgeasdError
from train.data.clips import Clip
from train.scoring.metrics import Measures, mean_of, measure, official_score


def test_measure_auc_is_the_part_of_pairs_in_order() -> None:
    """The AUC counts pairs of a normal and an anomalous clip that the scores put in order."""
    rng = np.random.default_rng(0)
    normal, anomalous = rng.normal(0.0, 1.0, 30), rng.normal(0.5, 1.0, 20)

    (one,) = _measure(normal, anomalous)

    pairs = [a > n for a in anomalous for n in normal]
    assert one.auc == pytest.approx(statistics.fmean(pairs))
    assert (one.section, one.domain, one.n_normal, one.n_anomaly) == ("00", "source", 30, 20)


def test_measure_pauc_of_chance_is_half_and_of_perfection_one() -> None:
    """The pAUC is standardised: scores that say nothing give 0.5, perfect ones 1."""
    (chance,) = _measure(np.zeros(10), np.zeros(10))
    (perfect,) = _measure(np.zeros(10), np.ones(10))

    assert (chance.auc, chance.pauc) == (0.5, 0.5)
    assert (perfect.auc, perfect.pauc) == (1.0, 1.0)


def test_measure_pauc_is_mcclish_standard_of_partial_area() -> None:
    """The area up to a false positive rate of 0.1, scaled from chance to perfection."""
    # Ten normal clips: the first false alarm is a rate of 0.1.  Three of four anomalies are above
    # all normal clips, so the partial area is 0.75 * 0.1.
    (one,) = _measure(np.arange(10.0), np.array([20.0, 21.0, 22.0, 0.5]))

    least, most = 0.1**2 / 2.0, 0.1
    assert one.pauc == pytest.approx(0.5 * (1.0 + (0.075 - least) / (most - least)))


def test_measure_decisions_give_precision_recall_and_f1() -> None:
    """Decisions are counted against the labels."""
    clips = [_clip("normal"), _clip("normal"), *[_clip("anomaly")] * 3]

    (one,) = measure(clips, [0.0, 1.0, 2.0, 3.0, 4.0], [False, True, True, False, False])

    assert (one.precision, one.recall) == pytest.approx((1 / 2, 1 / 3))
    assert one.f1 == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))


def test_measure_without_a_single_alarm_gives_zero() -> None:
    """No alarm at all is a precision, recall and F1 of 0, not an error."""
    (one,) = _measure(np.zeros(2), np.ones(2), threshold=5.0)

    assert (one.precision, one.recall, one.f1) == (0.0, 0.0, 0.0)


def test_measure_keeps_sections_and_domains_apart() -> None:
    """Each section and domain is measured on its own clips, in order."""
    clips = [
        _clip(label, section, domain)
        for section in ("01", "00")
        for domain in ("target", "source")
        for label in ("normal", "anomaly")
    ]

    measures = measure(clips, [0, 1, 1, 0, 0, 1, 1, 0], [False] * 8)

    found = [(one.section, one.domain, one.auc) for one in measures]
    assert found == [
        ("00", "source", 0.0),
        ("00", "target", 1.0),
        ("01", "source", 0.0),
        ("01", "target", 1.0),
    ]


def test_measure_section_without_anomalies_is_named() -> None:
    """Measures need both kinds of clips, and the message says where one is missing."""
    with pytest.raises(EdgeasdError) as error:
        measure([_clip("normal")], [0.0], [False])

    assert str(error.value) == (
        "section 00, source domain: has 1 normal and 0 anomalous test clips and must have at "
        "least one of each"
    )


def test_official_score_is_harmonic_mean_of_every_auc_and_pauc() -> None:
    """AUC and pAUC of all sections and domains weigh alike."""
    measures = [_measures(0.9, 0.6), _measures(0.5, 0.45)]

    assert official_score(measures) == pytest.approx(4 / (1 / 0.9 + 1 / 0.6 + 1 / 0.5 + 1 / 0.45))
    assert mean_of(measures, statistics.fmean)["auc"] == pytest.approx(0.7)


def _measure(normal: np.ndarray, anomalous: np.ndarray, threshold: float = 0.5) -> list[Measures]:
    clips = [*[_clip("normal")] * len(normal), *[_clip("anomaly")] * len(anomalous)]
    scores = [*normal.tolist(), *anomalous.tolist()]
    return measure(clips, scores, [score >= threshold for score in scores])


def _clip(label: str, section: str = "00", domain: str = "source") -> Clip:
    return Clip(Path("clip.wav"), "fan", section, domain, "test", label)


def _measures(auc: float, pauc: float) -> Measures:
    return Measures("00", "source", 1, 1, auc, pauc, 0.0, 0.0, 0.0)
