"""What several commands take on the command line."""

from __future__ import annotations

import math
import re
from pathlib import Path

import click

from edgeasd.common.config_file import DEFAULT_PATH

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
