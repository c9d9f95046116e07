from __future__ import annotations

import csv
import json
import statistics
from dataclasses import asdict
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from edgeasd.common.errors import EdgeasdError
from tests.train.toy import RECIPE, write_clip, write_clips
from train.evaluation.evaluate import Evaluation, evaluate


@pytest.fixture(scope="module")
def evaluations(toy_run: Path) -> list[Evaluation]:
    """The toy run by every method that a classifier has."""
    return evaluate(toy_run, None)


def test_evaluate_gives_the_recipes_method_first(evaluations: list[Evaluation]) -> None:
    """Every scoring method of a classifier is measured, that of the recipe first."""
    assert [one.method for one in evaluations] == ["nearest", "log_odds", "mahalanobis"]
    assert evaluations[0].scores != evaluations[1].scores


def test_evaluate_writes_measures_to_metrics_json(
    evaluations: list[Evaluation], toy_run: Path, toy_data: Path
) -> None:
    """metrics.json holds recipe, data, each section and domain, means and official score."""
    table = json.loads((toy_run / "metrics.json").read_text(encoding="utf-8"))

    nearest = table["methods"]["nearest"]
    groups = [(one["section"], one["domain"]) for one in nearest["sections"]]
    assert groups == [(s, d) for s in ("00", "01") for d in ("source", "target")]
    values = [one[name] for one in nearest["sections"] for name in ("auc", "pauc")]
    assert nearest["official_score"] == pytest.approx(statistics.harmonic_mean(values))
    assert nearest == evaluations[0].to_table()
    assert (table["recipe"], table["epochs"]) == (asdict(RECIPE), 1)
    assert (table["machine_type"], table["data"]) == ("toy_fan", str(toy_data.resolve()))


def test_evaluate_writes_the_result_files_of_dcase(
    evaluations: list[Evaluation], toy_run: Path, toy_data: Path
) -> None:
    """Scores and decisions are a file for each section and domain, without header."""
    scores = _rows(toy_run / "dcase" / "anomaly_score_toy_fan_section_01_target_test.csv")
    decisions = _rows(toy_run / "dcase" / "decision_result_toy_fan_section_01_target_test.csv")

    names = sorted(path.name for path in (toy_data / "target_test").glob("section_01_*"))
    assert [name for name, _ in scores] == names
    assert [name for name, _ in decisions] == names
    assert {made for _, made in decisions} <= {"0", "1"}
    assert {float(score) for _, score in scores} <= set(evaluations[0].scores)
    assert len(list((toy_run / "dcase").iterdir())) == 2 * 4 + 1


def test_evaluate_result_csv_agrees_with_the_score_files(
    evaluations: list[Evaluation], toy_run: Path
) -> None:
    """The AUC in result.csv is that of the scores in the file beside it."""
    rows = _rows(toy_run / "dcase" / "result.csv")
    scores = _rows(toy_run / "dcase" / "anomaly_score_toy_fan_section_00_source_test.csv")

    auc = roc_auc_score(["anomaly" in name for name, _ in scores], [float(s) for _, s in scores])
    assert rows[0] == ["toy_fan"]
    assert rows[1] == ["section", "domain", "AUC", "pAUC", "precision", "recall", "F1 score"]
    assert rows[2][:2] == ["00", "source"]
    assert float(rows[2][2]) == pytest.approx(float(auc))
    assert [row[0] for row in rows[-2:]] == ["arithmetic mean", "harmonic mean"]
    assert evaluations[0].measures[0].auc == pytest.approx(float(auc))


def test_evaluate_does_not_look_at_test_labels(
    evaluations: list[Evaluation], toy_run: Path, tmp_path: Path
) -> None:
    """Swapped labels swap the measures, and change no score and no decision."""
    data = write_clips(tmp_path / "toy_fan")
    for path in [*data.glob("source_test/*_000[01]_*"), *data.glob("target_test/*")]:
        other = "normal" if "anomaly" in path.name else "anomaly"
        path.rename(path.with_name(path.name.replace("normal", "x").replace("anomaly", "x")
                                   .replace("x", other).replace("_000", "_100")))  # fmt: skip

    swapped = evaluate(toy_run, data)[0]

    assert sorted(swapped.scores) == sorted(evaluations[0].scores)
    assert sum(swapped.decisions) == sum(evaluations[0].decisions)
    assert swapped.measures[1].auc == pytest.approx(1.0 - evaluations[0].measures[1].auc)


def test_evaluate_without_test_clips_says_where_they_belong(
    toy_run: Path, toy_data: Path, tmp_path: Path
) -> None:
    """Training clips alone cannot be evaluated on."""
    data = tmp_path / "toy_fan"
    data.mkdir()
    (data / "train").symlink_to(toy_data / "train")

    with pytest.raises(
        EdgeasdError,
        match=r"holds no test clips of sections 00, 01; put them where train/README\.md",
    ):
        evaluate(toy_run, data)


def test_evaluate_with_other_training_clips_is_refused(toy_run: Path, tmp_path: Path) -> None:
    """References of other sound than was trained on would measure another model."""
    data = write_clips(tmp_path / "toy_fan")
    write_clip(data / "train" / "section_00_source_train_normal_0099_toy.wav", seed=99)

    with pytest.raises(EdgeasdError, match="the training clips must be those that"):
        evaluate(toy_run, data)


def test_evaluate_folder_without_run_says_how_to_make_one(tmp_path: Path) -> None:
    """A folder that holds no run is named with the remedy."""
    with pytest.raises(EdgeasdError, match=r"holds no run .*'python -m train fit' makes one$"):
        evaluate(tmp_path, None)


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))
