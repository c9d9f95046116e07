"""Runs all checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from edgeasd.cli.check.broker import check_broker_steps
from edgeasd.cli.check.host import (
    check_clock,
    check_service,
    check_state_directory,
    unit_properties,
)
from edgeasd.cli.check.report import CheckReport, CheckResult, run_check
from edgeasd.cli.check.sound import check_sounds
from edgeasd.common.config.file import load_config
from edgeasd.common.config.keys import MachineConfig
from edgeasd.common.errors import EdgeasdError
from edgeasd.models.cache import Models
from edgeasd.models.calibration_file import calibrated_model
from edgeasd.models.detector import make_detector
from edgeasd.service.process.tasks import most_tasks


def run_checks(config_path: Path) -> Iterator[CheckReport]:
    """Yield a report for each check; only one if the configuration cannot be read."""
    try:
        config = load_config(config_path)
    except EdgeasdError as exc:
        for line in exc.lines:
            yield CheckReport("configuration", line, "failure", exc.exit_code)
        return
    yield CheckReport("configuration", f"{config_path}, {_counted(len(config.machine), 'machine')}")
    models = Models()
    models.prepare(machine.model for machine in config.machine)
    for machine in config.machine:
        for name, check in _MACHINE_CHECKS.items():
            yield run_check(f"{machine.name}: {name}", partial(check, machine, models))
    unit = unit_properties()
    yield from check_sounds(config.machine, in_service=unit.get("ActiveState") == "active")
    yield run_check("state directory", partial(check_state_directory, config.state_dir))
    yield run_check("clock", check_clock)
    yield run_check("service", partial(check_service, unit, most_tasks(config)))
    yield from check_broker_steps(config)


def _check_model(machine: MachineConfig, models: Models) -> CheckResult:
    calibrated = calibrated_model(machine, models.load(machine.model))
    model, document = calibrated.model, calibrated.model.document
    detector = make_detector(model, machine.section, machine.alarm)
    return CheckResult(
        f"{document.id} {document.version}, section {document.sections[detector.section].name}, "
        f"sha256 {model.sha256[:12]}, threshold {detector.alarm.threshold:.3f}"
    )


def _check_calibration(machine: MachineConfig, models: Models) -> CheckResult:
    calibrated = calibrated_model(machine, models.load(machine.model))
    if calibrated.warning:
        return CheckResult(calibrated.warning, doubtful=True)
    if machine.alarm.threshold is not None:
        return CheckResult("alarm.threshold in the configuration overrides every other threshold")
    return CheckResult(calibrated.origin)


_MACHINE_CHECKS: Mapping[str, Callable[[MachineConfig, Models], CheckResult]] = MappingProxyType(
    {"model": _check_model, "calibration": _check_calibration}
)
"""Checks of a machine that need no sound, by name."""


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
