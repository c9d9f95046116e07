"""Tests of the paper's figures, typed anew from its tables 1 and 2."""

from __future__ import annotations

import pytest

from train.evaluation.paper import MACHINE_TYPES, OFFICIAL, paper_table
from train.evaluation.table import Result

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
