"""The calibration file of a machine: thresholds and references learned where it stands.

It lies beside the model file, names the model by its digest, and keeps older calibrations.  The
commands write it; the daemon reads it.  Where it cannot be used, the daemon goes on with the
model's threshold, as a rough one is better than none, and says so in log and health.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Annotated, Any

from edgeasd.common.config.keys import AlarmConfig, MachineConfig
from edgeasd.common.documents.json_text import read_json
from edgeasd.common.documents.reading import (
    DocumentError,
    at_most_items,
    between,
    one_of,
    read_table,
    rule,
)
from edgeasd.common.errors import ModelError, os_reason
from edgeasd.common.files.small_file import read_small
from edgeasd.common.files.whole_file import replace_file
from edgeasd.common.text import rounded
from edgeasd.detect.model.document import (
    MOST_DISTANCES,
    THRESHOLD,
    TIME,
    WORD,
    DistanceDocument,
    to_table,
)
from edgeasd.detect.model.matrix import StoredMatrix
from edgeasd.detect.model.network import Model

SCHEMA = "edgeasd.site/1"
KEPT_VERSIONS = 20
"""Calibrations that a file keeps; ``edgeasd calibrate --undo`` goes back through them."""
MOST_BYTES = 2**25
"""Most bytes of a calibration file; 20 calibrations that each add 500 references of 512 values take
27 MB."""
_MOST_SOURCES = 100_000
_COUNT = between(0, 1e9)
_AMOUNT = between(0, 1e15)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold of a machine, how it was found, and which references were added."""

    number: Annotated[int, between(1, 1e9)]
    """Number of the calibration, counted from 1."""
    model_sha256: Annotated[str, WORD]
    """SHA-256 digest of the model file that gave the scores, hexadecimal."""
    section: Annotated[str, WORD]
    """Section of the model that the machine is."""
    created: Annotated[str, TIME]
    """RFC 3339 time of the calibration."""
    threshold: Annotated[float, THRESHOLD]
    """Score at which the alarm is raised."""
    clear_threshold: Annotated[float, THRESHOLD]
    """Score below which the alarm may end; at most threshold."""
    raise_after: Annotated[int, _COUNT]
    """alarm.raise_after of the configuration that the rates below are for."""
    clear_after: Annotated[int, _COUNT]
    """alarm.clear_after of the configuration that the rates below are for."""
    cool_down_s: Annotated[float, _AMOUNT]
    """alarm.cool_down_s of the configuration that the rates below are for."""
    budget_per_week: Annotated[float, _AMOUNT]
    """False alarms a week that were asked for."""
    expected_per_week: Annotated[float, _AMOUNT]
    """False alarms a week to expect at the threshold."""
    low_per_week: Annotated[float, _AMOUNT]
    """Lower end of the 95 % interval of expected_per_week."""
    high_per_week: Annotated[float, _AMOUNT]
    """Upper end of the 95 % interval of expected_per_week."""
    method: Annotated[str, one_of("counted", "tail")]
    """Where expected_per_week comes from: ``counted`` in the sound, or extrapolated from the
    ``tail`` of the scores."""
    fit: dict[str, Any]
    """What the tail was fitted to: level, number of peaks, dispersion."""
    sound_s: Annotated[float, _AMOUNT]
    """Seconds of normal sound that were scored."""
    decisions: Annotated[int, _COUNT]
    """Number of scores among them that share no sound."""
    score_quantiles: Annotated[
        tuple[float, ...],
        rule(lambda value: len(value) == 3, "three numbers", minItems=3, maxItems=3),  # noqa: PLR2004
    ]
    """Quantiles 5 %, 50 % and 95 % of the scores."""
    sources: Annotated[tuple[str, ...], at_most_items(_MOST_SOURCES)] = ()
    """Absolute paths of the recordings that were scored; none if it was live sound."""
    added_sources: Annotated[tuple[str, ...], at_most_items(_MOST_SOURCES)] = ()
    """Absolute paths of the recordings that references were added from."""
    references: StoredMatrix | None = None
    """Embeddings that count as normal beside the references of the model."""
    distances: Annotated[tuple[DistanceDocument, ...], at_most_items(MOST_DISTANCES)] = ()
    """Distances that replace those of the model; none leaves the model's in force."""

    def made_for(self, alarm: AlarmConfig) -> bool:
        """Return whether its rates of false alarms hold for *alarm*, whatever the threshold."""
        return (self.raise_after, self.clear_after, self.cool_down_s) == (
            alarm.raise_after,
            alarm.clear_after,
            alarm.cool_down_s,
        )


@dataclass(frozen=True, slots=True)
class CalibrationDocument:
    """The calibrations of one machine.

    They are JSON of at most 32 MiB, a million values and 32 levels, in a file beside the model
    file: for the machine press07 and the model fan.onnx, fan.onnx.press07.json.
    """

    machine: str
    """Name of the machine in the configuration."""
    versions: Annotated[tuple[Calibration, ...], at_most_items(KEPT_VERSIONS)] = ()
    """The calibrations, the newest last, which is the one in force."""
    schema: Annotated[str, one_of(SCHEMA)] = SCHEMA
    """Version of this form."""

    @property
    def newest(self) -> Calibration | None:
        """The calibration in force, if there is any."""
        return self.versions[-1] if self.versions else None

    def with_version(self, version: Calibration) -> CalibrationDocument:
        """Return the document with *version* as the newest calibration, without the oldest one."""
        return replace(self, versions=(*self.versions, version)[-KEPT_VERSIONS:])


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedModel:
    """The model of a machine with its calibration applied.

    Attributes:
        model: The model, with the threshold and the references in force in its document.
        section: Index of the machine's section.
        calibration: The calibration in force; `None` where the model's own threshold is.
        warning: What is wrong with the calibration file, with the remedy; empty if nothing is.
    """

    model: Model
    section: int
    calibration: Calibration | None
    warning: str = ""

    @property
    def origin(self) -> str:
        """Where the threshold comes from, in words."""
        made = self.calibration
        if made is None:
            return "the model's own; set one by 'edgeasd calibrate'"
        return (
            f"calibration {made.number} of {made.created:.10}, "
            f"{rounded(made.expected_per_week, 2)} false alarms a week expected"
        )


def calibration_path(machine: MachineConfig) -> Path:
    """Return the path of the calibration file of *machine*, which need not be there."""
    return machine.model.with_name(f"{machine.model.name}.{machine.name}.json")


def files_of(machine: MachineConfig) -> tuple[Path, ...]:
    """Return the model file of *machine* and its calibration file, which need not be there."""
    return machine.model, calibration_path(machine)


def read_calibrations(machine: MachineConfig) -> CalibrationDocument:
    """Return the calibrations of *machine*; none if it has no calibration file.

    Raises:
        ModelError: If the file cannot be used.
    """
    path = calibration_path(machine)
    try:
        text = read_small(path, MOST_BYTES).decode()
    except FileNotFoundError:
        return CalibrationDocument(machine.name)
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is not UTF-8 text"
        raise ModelError(f"{path}: cannot be read ({reason}); {_remedy(machine)}") from exc
    try:
        document = read_table(CalibrationDocument, read_json(text))
    except DocumentError as exc:
        raise ModelError(f"{path}: {exc}; remove the file, then {_remedy(machine)}") from exc
    if document.machine != machine.name:
        raise ModelError(
            f"{path}: machine={document.machine!r} must be {machine.name!r}; {_remedy(machine)}"
        )
    return document


def write_calibrations(machine: MachineConfig, document: CalibrationDocument) -> None:
    """Write the calibration file of *machine*; whoever reads it finds the old or the new one whole.

    Raises:
        StorageError: If it cannot be written.
    """
    text = json.dumps(document, default=to_table, allow_nan=False, indent=1)
    replace_file(calibration_path(machine), text.encode())


def describe_calibrations(model: Path) -> dict[str, Any]:
    """Return the newest calibration of each machine with a calibration file beside *model*.

    The numbers of its references and distances are left out.  Where a file cannot be used, such as
    a copy under another name, the reason stands in place of the calibration.
    """
    found: dict[str, Any] = {}
    for path in sorted(model.parent.glob(f"{escape(model.name)}.*.json")):
        name = path.name.removeprefix(f"{model.name}.").removesuffix(".json")
        try:
            newest = read_calibrations(MachineConfig(name, model)).newest
        except ModelError as exc:
            found[name] = {"error": str(exc)}
            continue
        if newest is not None:
            found[name] = to_table(replace(newest, references=None, distances=()))
    return found


def calibrated_model(machine: MachineConfig, model: Model) -> CalibratedModel:
    """Return *model* with the calibration of *machine* applied, if there is one that can be used.

    Raises:
        ModelError: If the model has no such section.
    """
    section = model.section_index(machine.section)
    own = CalibratedModel(model, section, None)
    try:
        calibration = read_calibrations(machine).newest
        if calibration is None:
            return own
        _check_model(machine, model, section, calibration)
        adapted = _adapted(model, section, calibration)
    except Exception as exc:  # noqa: BLE001 - whatever is in the file, the machine is listened to
        return replace(
            own, warning=f"{os_reason(exc)}; until then the model's own threshold is in force"
        )
    warning = ""
    if not calibration.made_for(machine.alarm):
        warning = (
            f"{calibration_path(machine)}: this calibration file was made for "
            f"raise_after={calibration.raise_after}, clear_after={calibration.clear_after}, "
            f"cool_down_s={calibration.cool_down_s:g}; "
            f"{_remedy(machine)}"
        )
    return CalibratedModel(adapted, section, calibration, warning)


def _adapted(model: Model, section: int, calibration: Calibration) -> Model:
    """Return *model* with the threshold, references and distances of *calibration*."""
    document = model.document
    own = document.sections[section]
    references = own.references
    if calibration.references is not None and references is not None:
        references = references.extended(calibration.references)
    sections = list(document.sections)
    sections[section] = replace(
        own,
        threshold=calibration.threshold,
        clear_threshold=calibration.clear_threshold,
        references=references,
    )
    distances = calibration.distances or document.distances
    return model.with_document(replace(document, sections=tuple(sections), distances=distances))


def _check_model(
    machine: MachineConfig, model: Model, section: int, calibration: Calibration
) -> None:
    """Refuse *calibration* if it is of another model or section."""
    path = calibration_path(machine)
    if calibration.model_sha256 != model.sha256:
        raise ModelError(
            f"{path}: this calibration file is of another model "
            f"(sha256 {calibration.model_sha256:.12}, {machine.model.name} has "
            f"{model.sha256:.12}); {_remedy(machine)}"
        )
    name = model.document.sections[section].name
    if calibration.section != name:
        raise ModelError(
            f"{path}: this calibration file is of section {calibration.section!r}, not {name!r}; "
            f"{_remedy(machine)}"
        )


def _remedy(machine: MachineConfig) -> str:
    return f"run 'edgeasd calibrate {machine.name}'"
