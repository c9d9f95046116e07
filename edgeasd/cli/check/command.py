"""The command ``check``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from edgeasd.cli.options import config_option
from edgeasd.common.output import say, say_json

_MARKS = {"ok": "ok  ", "warning": "warn", "failure": "FAIL"}


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
def check(*, config_path: Path, as_json: bool) -> None:
    """Check configuration, models, sound, disk, clock, service and broker, one line each."""
    from edgeasd.cli.check.run import run_checks

    exit_code = 0
    for report in run_checks(config_path):
        exit_code = exit_code or report.exit_code
        if as_json:
            say_json(asdict(report))
        else:
            say(f"{_MARKS[report.grade]} {report.subject}: {report.text}")
        sys.stdout.flush()
    sys.exit(exit_code)
