"""The figures of Cai et al. (DCASE 2021), to stand beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from train.evaluation.table import Result

MACHINE_TYPES = ("fan", "gearbox", "slider", "ToyTrain", "ToyCar", "pump", "valve")
"""In the paper's order, by the names of their folders in DCASE 2021 Task 2."""

OFFICIAL = "official score"

_DEVELOPMENT = {"00", "01", "02"}
_EVALUATION = {"03", "04", "05"}

# Table 2: official score by machine type, and their harmonic mean, in percent.
_TABLE_2 = {
    "mbv2": (60.30, 57.43, 59.43, 51.10, 53.60, 56.17, 55.19, 56.01),
    "mbv2-cl": (60.61, 58.87, 60.70, 50.92, 52.51, 56.90, 54.38, 56.18),
    "mbv2-mf": (64.08, 65.38, 59.83, 49.69, 55.38, 59.50, 53.74, 57.75),
    "mbv2-cl-mf": (64.45, 67.16, 58.66, 51.89, 56.15, 57.27, 53.46, 57.99),
}
# Table 1: AUC by machine type, as table 3 tells, and the official score.
_TABLE_1 = {
    "ae-baseline": (60.68, 65.49, 57.22, 68.51, 65.93, 58.30, 51.87, 56.375),
    "mbv2-baseline": (64.96, 51.14, 72.92, 42.91, 42.73, 67.97, 53.13, 54.770),
    "challenge": (90.68, 58.00, 77.34, 47.49, 53.81, 77.82, 53.53, 60.966),
}


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table of the paper, or its form for other data.

    Attributes:
        title: What it tells.
        by_auc: Whether a machine type's column is the harmonic mean of its AUCs, not the official
            score.
        figures: By recipe, then by machine type or `OFFICIAL`; from 0 to 1.
    """

    title: str
    by_auc: bool = False
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def paper_table(results: Iterable[Result]) -> PaperTable:
    """Return the paper's table of the data of *results*, by the sections that were tested.

    DCASE 2021 numbers those of the development data 00 to 02, of the evaluation data 03 to 05.
    """
    sections: set[str] = set()
    machines: set[str] = set()
    for one in results:
        machines.add(one.machine_type)
        for table in one.metrics["methods"].values():
            sections.update(row["section"] for row in table["sections"])
    if machines and machines <= set(MACHINE_TYPES):
        if sections == _DEVELOPMENT:
            return PaperTable("table 2: official score", figures=_shares(_TABLE_2))
        if sections == _EVALUATION:
            return PaperTable(
                "table 1: AUC, official score", by_auc=True, figures=_shares(_TABLE_1)
            )
    return PaperTable("official score")


def _shares(percents: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    names = (*MACHINE_TYPES, OFFICIAL)
    return {
        recipe: {name: value / 100 for name, value in zip(names, row, strict=True)}
        for recipe, row in percents.items()
    }
