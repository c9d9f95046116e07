"""Tests of the table of results on stdout."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from train.evaluation.show import print_results
from train.evaluation.table import Result

ALL = ("valve", "fan", "gearbox", "slider", "pump", "ToyCar", "ToyTrain")
DEVELOPMENT = ("00", "01", "02")


def make_result(
    recipe: str,
    machine: str,
    seed: int,
    scores: dict[str, float],
    *,
    sections: tuple[str, ...] = DEVELOPMENT,
    epochs: int = 100,
) -> Result:
    """Return a result of so many epochs with an official score for each method."""
    methods: dict[str, Any] = {
        method: {
            "official_score": score,
            "harmonic_mean": {"auc": score + 0.05},
            "sections": [
                {"section": name, "domain": domain, "auc": score + shift}
                for name in sections
                for domain, shift in (("source", 0.1), ("target", -0.1))
            ],
        }
        for method, score in scores.items()
    }
    return Result(recipe, machine, seed, {"epochs": epochs, "methods": methods})


def lines_of(results: list[Result], capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the words of each line that is printed, without the rule below the head."""
    print_results(results)
    return [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_print_results_has_a_row_for_each_method_with_mean_and_spread(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Over seeds stand mean and standard deviation, of one seed the figure alone."""
    results = [
        make_result("mbv2", "fan", 1, {"log_odds": 0.60, "nearest": 0.70}),
        make_result("mbv2", "fan", 2, {"log_odds": 0.64, "nearest": 0.71}, epochs=120),
        make_result("edge", "fan", 1, {"mahalanobis": 0.80}, epochs=0),
    ]

    lines = lines_of(results, capsys)

    assert lines[0] == ["table", "2:", "official", "score"]
    spread = [f"{statistics.stdev([0.60, 0.64]):.3f}", f"{statistics.stdev([0.70, 0.71]):.3f}"]
    assert ["mbv2", "log_odds", "100", "to", "120", "2",
            *["0.620", "±", spread[0]] * 2,
            "0.720", "±", spread[0], "0.520", "±", spread[0]] in lines  # fmt: skip
    assert any(line[:1] == ["nearest"] and line[5:8] == ["0.705", "±", spread[1]] for line in lines)
    assert ["edge", "mahalanobis", "0", "1", "0.800", "0.800", "0.900", "0.700"] in lines


def test_print_results_shows_the_papers_row_below_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Below the recipe's own method stands what the paper reached on the same machine types."""
    results = [
        make_result("mbv2-cl-mf", machine, 1, {"log_odds": 0.6, "nearest": 0.7})
        for machine in ("gearbox", "fan")
    ]

    lines = lines_of(results, capsys)

    assert lines[1][4:6] == ["fan", "gearbox"]
    ours = next(index for index, line in enumerate(lines) if line[0] == "mbv2-cl-mf")
    assert lines[ours + 1] == ["paper", "0.645", "0.672", "0.580"]
    assert lines[ours + 2][0] == "nearest"
    assert sum(line[0] == "paper" for line in lines) == 1


def test_print_results_of_evaluation_data_shows_auc_by_machine_type(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Table 1 tells the harmonic mean of a machine's AUCs, and the official score of all."""
    scores = {"reconstruction": 0.5}
    results = [make_result("ae-baseline", "fan", 1, scores, sections=("03", "04", "05"))]

    lines = lines_of(results, capsys)

    assert lines[0] == ["table", "1:", "AUC,", "official", "score"]
    assert [
        "ae-baseline",
        "reconstruction",
        "100",
        "1",
        "0.550",
        "0.500",
        "0.600",
        "0.400",
    ] in lines
    assert ["paper", "0.607", "0.564"] in lines


def test_print_results_official_score_is_of_seeds_with_all_machine_types(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The harmonic mean over machine types waits for the last of them."""
    results = [
        make_result("edge", "fan", 1, {"mahalanobis": 0.5}),
        make_result("edge", "pump", 1, {"mahalanobis": 0.7}),
        make_result("edge", "fan", 2, {"mahalanobis": 0.5}),
    ]

    lines = lines_of(results, capsys)

    row = next(line for line in lines if line[0] == "edge")
    # fan 0.500 +- 0.000, pump of one seed, official score of seed 1.
    expected = f"{statistics.harmonic_mean([0.5, 0.7]):.3f}"
    assert row[4:9] == ["0.500", "±", "0.000", "0.700", expected]


def test_print_results_of_seven_machine_types_cuts_nothing_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a file or a narrow terminal too every figure is whole."""
    results = [
        make_result("mbv2-cl-mf", machine, seed, {"log_odds": 0.6 + seed / 100})
        for machine in ALL
        for seed in (1, 2)
    ]

    lines = lines_of(results, capsys)

    assert not any("…" in word for line in lines for word in line)
    assert lines[1][4:11] == ["fan", "gearbox", "slider", "ToyTrain", "ToyCar", "pump", "valve"]
    row = next(line for line in lines if line[0] == "mbv2-cl-mf")
    assert row.count("±") == 10


def test_print_results_of_one_machine_type_of_other_data_has_no_column_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its score is the official score; there is nothing of the paper to stand beside it."""
    results = [make_result("edge", "fan", 1, {"mahalanobis": 0.8}, sections=("00", "03"))]

    lines = lines_of(results, capsys)

    assert ["edge", "mahalanobis", "100", "1", "0.800", "0.900", "0.700"] in lines


def test_print_results_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe's name is no markup, and steers no terminal."""
    lines = lines_of([make_result("[/b]x\x1b[2J", "fan", 1, {"nearest": 0.7})], capsys)

    assert any(line[0] == "[/b]x?[2J" for line in lines)
