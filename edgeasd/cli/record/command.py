"""The command ``record``."""

from __future__ import annotations

from pathlib import Path

import click

from edgeasd.cli.options import PATH, config_option, duration
from edgeasd.common.config.file import find_machine


@click.command()
@config_option
@click.option("--section", help="Two digits; else the section of the configuration, or 00.")
@click.option(
    "--domain",
    type=click.Choice(["source", "target"]),
    default="source",
    show_default=True,
    help="target: recorded after a change of conditions.",
)
@click.option("--duration", "duration_s", callback=duration, required=True, help="For example 2h.")
@click.option(
    "--out", type=PATH, help="Folder of the recordings; else ./MACHINE in the current folder."
)
@click.argument("machine")
def record(
    *,
    config_path: Path,
    section: str | None,
    domain: str,
    duration_s: float,
    out: Path | None,
    machine: str,
) -> None:
    """Record normal sound of MACHINE, for 'edgeasd learn' and for the trainer.

    The same command continues a recording that was interrupted.
    """
    from edgeasd.cli.record.recorder import record_clips
    from edgeasd.offline.recordings.folder import Place

    found = find_machine(config_path, machine)
    place = Place(out or Path(machine), section or found.section or "00", domain)
    record_clips(found, place, duration_s)
