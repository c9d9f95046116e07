"""Tests of a table of runs, and of the paper's figures, typed anew from its tables 1 and 2."""

from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgeasd.common.errors import EdgeasdError
from tests.train.test_kinds import DIAGONAL
from tests.train.toy import CNN_RECIPE, interrupt_at_step
from train.evaluation.evaluate import METRICS
from train.evaluation.table import (
    MACHINE_TYPES,
    OFFICIAL,
    Result,
    make_table,
    paper_table,
    plan_runs,
)
from train.runs.run import Run, StoppedError

CPU = torch.device("cpu")

# Fan, gearbox, slider, ToyTrain, ToyCar, pump, valve.
TABLE_1 = """
ae-baseline    60.68 65.49 57.22 68.51 65.93 58.30 51.87  56.375
mbv2-baseline  64.96 51.14 72.92 42.91 42.73 67.97 53.13  54.770
challenge      90.68 58.00 77.34 47.49 53.81 77.82 53.53  60.966
"""
TABLE_2 = """
mbv2        60.30 57.43 59.43 51.10 53.60 56.17 55.19  56.01
mbv2-cl     60.61 58.87 60.70 50.92 52.51 56.90 54.38  56.18
mbv2-mf     64.08 65.38 59.83 49.69 55.38 59.50 53.74  57.75
mbv2-cl-mf  64.45 67.16 58.66 51.89 56.15 57.27 53.46  57.99
"""


@pytest.fixture
def machines(toy_data: Path, tmp_path: Path) -> Path:
    """A folder of two machine types of the same recordings."""
    folder = tmp_path / "data"
    for name in ("fan", "pump"):
        # Of its own: a link would be resolved to the one name.
        (folder / name).mkdir(parents=True)
        for inner in toy_data.iterdir():
            (folder / name / inner.name).symlink_to(inner)
    return folder


def test_plan_runs_are_seed_by_seed_for_each_recipe_and_machine_type(
    machines: Path, tmp_path: Path
) -> None:
    """An early look sees all recipes; each run has a folder of its own."""
    recipes = [DIAGONAL, CNN_RECIPE]

    plans = plan_runs(str(machines), recipes, [5, 6], tmp_path / "out")

    assert [str(plan.folder.relative_to(tmp_path / "out")) for plan in plans] == [
        f"{machine}/{recipe.name}/seed-{seed}"
        for seed in (5, 6)
        for recipe in recipes
        for machine in ("fan", "pump")
    ]
    assert [plan.recipe.seed for plan in plans] == [5] * 4 + [6] * 4
    assert {plan.data for plan in plans} == {machines / "fan", machines / "pump"}


def test_plan_runs_replaces_seed_in_the_name_of_the_data(machines: Path, tmp_path: Path) -> None:
    """Where each seed has data of its own, its name holds the seed."""
    for seed in (5, 6):
        (tmp_path / f"made-{seed}").symlink_to(machines)

    plans = plan_runs(str(tmp_path / "made-{seed}"), [DIAGONAL], [5, 6], tmp_path / "out")

    assert [(plan.recipe.seed, plan.data) for plan in plans] == [
        (seed, tmp_path / f"made-{seed}" / machine)
        for seed in (5, 6)
        for machine in ("fan", "pump")
    ]


def test_plan_runs_of_data_that_is_not_there_says_so(tmp_path: Path) -> None:
    """The folder is named with its seed."""
    with pytest.raises(EdgeasdError) as error:
        plan_runs(str(tmp_path / "made-{seed}"), [DIAGONAL], [5], tmp_path)

    assert str(error.value) == f"{tmp_path / 'made-5'}: must be a folder of recordings"


def test_plan_runs_refuses_two_machine_types_of_one_name(machines: Path, tmp_path: Path) -> None:
    """As in MIMII, where each noise level has its fan: one would overwrite the other."""
    root = tmp_path / "mimii"
    for level in ("0_dB", "6_dB"):
        (root / level).mkdir(parents=True)
        (root / level / "fan").mkdir()
        for inner in (machines / "fan").iterdir():
            (root / level / "fan" / inner.name).symlink_to(inner.resolve())

    with pytest.raises(EdgeasdError) as error:
        plan_runs(str(root), [DIAGONAL], [5], tmp_path / "out")

    assert str(error.value) == (
        f"{root}: must not hold two machine types named fan; make a table of each, with --out"
    )


def test_make_table_makes_what_is_missing_and_nothing_twice(machines: Path, tmp_path: Path) -> None:
    """Results are one for each run; a second time no run is touched, and nothing is lost."""
    plans = plan_runs(str(machines), [DIAGONAL], [5], tmp_path / "out")

    results, faults = make_table(plans, tmp_path / "out", CPU)
    before = _times(tmp_path / "out")
    again = make_table(plans, tmp_path / "out", CPU)

    assert faults == []
    assert [(one.recipe, one.machine_type, one.seed) for one in results] == [
        ("toy-diagonal", "fan", 5), ("toy-diagonal", "pump", 5),
    ]  # fmt: skip
    assert again == (results, [])
    assert _times(tmp_path / "out") == before
    _assert_written(tmp_path / "out", plans[0].folder)


def _assert_written(folder: Path, run: Path) -> None:
    """Check results.json and results.csv against metrics.json of the first of two runs."""
    metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
    table = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert len(table) == 2
    assert table[0] == {
        "recipe": "toy-diagonal", "machine_type": "fan", "seed": 5, "metrics": metrics,
    }  # fmt: skip
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["machine_type"], row["section"], row["domain"]) for row in rows] == [
        (machine, section, domain)
        for machine in ("fan", "pump")
        for section in ("00", "01")
        for domain in ("source", "target")
    ]
    expected = metrics["methods"]["mahalanobis"]["sections"][1]
    assert {key: rows[1][key] for key in expected} == {
        key: str(value) for key, value in expected.items()
    }
    assert (rows[1]["recipe"], rows[1]["seed"]) == ("toy-diagonal", "5")
    assert (rows[1]["epochs"], rows[1]["method"]) == ("0", "mahalanobis")


def test_make_table_of_other_data_is_not_taken_for_done(machines: Path, tmp_path: Path) -> None:
    """Results of a machine type of the same name elsewhere are not passed off as its own."""
    (tmp_path / "moved").mkdir()
    plans = plan_runs(str(machines), [DIAGONAL], [5], tmp_path / "out")[:1]
    make_table(plans, tmp_path / "out", CPU)
    other = tmp_path / "moved" / "fan"
    (other / "train").mkdir(parents=True)
    for path in sorted((machines / "fan" / "train").iterdir())[1:]:
        (other / "train" / path.name).symlink_to(path.resolve())

    results, faults = make_table([replace(plans[0], data=other)], tmp_path / "out", CPU)

    assert results == []
    assert faults == [
        f"{plans[0].folder}: {plans[0].folder}: holds a run of recipe toy-diagonal with another "
        "data; choose another folder with --out"
    ]


def test_make_table_goes_on_past_a_machine_type_that_cannot_be_used(
    machines: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with one is told, at once and at the end; the others are made."""
    for name in ("source_test", "target_test"):
        (machines / "fan" / name).unlink()
    plans = plan_runs(str(machines), [DIAGONAL], [5], tmp_path / "out")

    with caplog.at_level(logging.ERROR, "train"):
        results, faults = make_table(plans, tmp_path / "out", CPU)

    assert [one.machine_type for one in results] == ["pump"]
    (fault,) = faults
    assert fault.startswith(
        f"{plans[0].folder}: {machines / 'fan'}: holds no test clips of sections"
    )
    assert [record.getMessage() for record in caplog.records] == [f"1/2 {fault}"]
    assert len(json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))) == 1


def test_make_table_stopped_continues_where_it_was(
    machines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C stops the whole table, not one run; the same command keeps the epoch that was done."""
    plans = plan_runs(str(machines), [CNN_RECIPE.override(epochs=2)], [5], tmp_path / "out")
    interrupt_at_step(40, monkeypatch)
    with pytest.raises(StoppedError, match="stopped after 1 of 2 epochs; the same command"):
        make_table(plans, tmp_path / "out", CPU)
    monkeypatch.undo()
    (first,) = Run(plans[0].folder).read_checkpoint()["history"]
    assert not plans[1].folder.exists()

    results, faults = make_table(plans[:1], tmp_path / "out", CPU)

    assert faults == []
    assert [one.metrics["epochs"] for one in results] == [2]
    assert Run(plans[0].folder).read_checkpoint()["history"][0] == first


def _times(folder: Path) -> dict[Path, int]:
    """Return when each file of the runs below *folder* was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*/*/**/*") if path.is_file()}


def make_result(machine_type: str, *sections: str) -> Result:
    """Return a result of a machine type of which *sections* were tested."""
    rows = [{"section": name} for name in sections]
    metrics = {"methods": {"log_odds": {"sections": rows}}}
    return Result("mbv2", machine_type, 1, metrics)


@pytest.mark.parametrize(
    ("sections", "typed", "by_auc"),
    [(("00", "01", "02"), TABLE_2, False), (("03", "04", "05"), TABLE_1, True)],
)
def test_paper_table_holds_the_figures_of_the_paper(
    sections: tuple[str, ...], typed: str, *, by_auc: bool
) -> None:
    """Sections 00 to 02 are table 2, 03 to 05 table 1, whose columns are AUCs."""
    table = paper_table([make_result("valve", *sections), make_result("fan", *sections)])

    assert table.by_auc == by_auc
    rows = [line.split() for line in typed.strip().splitlines()]
    assert list(table.figures) == [name for name, *_ in rows]
    names = ["fan", "gearbox", "slider", "ToyTrain", "ToyCar", "pump", "valve", OFFICIAL]
    for recipe, *percents in rows:
        expected = {name: float(one) / 100 for name, one in zip(names, percents, strict=True)}
        assert table.figures[recipe] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("machine_type", "sections"),
    [
        ("fan", ("00", "01")),
        ("fan", ("00", "01", "02", "03")),
        ("bearing", ("00", "01", "02")),
        ("", ()),
    ],
)
def test_paper_table_of_other_data_has_no_figures(
    machine_type: str, sections: tuple[str, ...]
) -> None:
    """What was not measured on the paper's data is not set beside its figures."""
    table = paper_table([make_result(machine_type, *sections)] if machine_type else [])

    assert table.title == "official score"
    assert not table.by_auc
    assert table.figures == {}


def test_paper_machine_types_are_the_seven_of_dcase_2021() -> None:
    """Folder names as DCASE spells them."""
    assert sorted(MACHINE_TYPES) == [
        "ToyCar", "ToyTrain", "fan", "gearbox", "pump", "slider", "valve",
    ]  # fmt: skip
