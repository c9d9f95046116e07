"""What several commands take on the command line."""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path

import click

from edgeasd.config import MachineConfig
from edgeasd.config_file import DEFAULT_PATH, load_config
from edgeasd.errors import ConfigError

PATH = click.Path(path_type=Path)
CHANNEL = click.IntRange(min=0)

config_option = click.option(
    "--config",
    "config_path",
    type=PATH,
    default=DEFAULT_PATH,
    show_default=True,
    help="Configuration file.",
)


def duration(_context: click.Context, _option: click.Parameter, text: str | None) -> float:
    """Return the seconds that ``90s``, ``30m``, ``2h`` or ``1h30m`` mean; infinity of nothing."""
    if text is None:
        return math.inf
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    duration_s = 3600.0 * hours + 60.0 * minutes + seconds
    if duration_s == 0.0:
        raise click.BadParameter(f"{text!r} must be a duration such as 90s, 30m, 2h or 1h30m")
    return duration_s


def find_machine(config_path: Path, name: str) -> MachineConfig:
    """Return the machine of the configuration that is called *name*.

    Raises:
        ConfigError: If there is none; the message gives the nearest one.
    """
    machines = {machine.name: machine for machine in load_config(config_path).machine}
    if name not in machines:
        near = difflib.get_close_matches(name, machines, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"machine={name!r} must be one of {', '.join(machines)}{hint}")
    return machines[name]
