"""Options that several commands have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeasd.common.config.file import DEFAULT_PATH

PATH = click.Path(path_type=Path)
CHANNEL = click.IntRange(min=0)

_Command = TypeVar("_Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "config_path",
    type=PATH,
    default=DEFAULT_PATH,
    show_default=True,
    help="Configuration file.",
)
channel_option = click.option(
    "--channel",
    type=CHANNEL,
    default=0,
    show_default=True,
    help="Channel of the files, counted from 0.",
)


def scorer_options(command: _Command) -> _Command:
    """Add the options that choose what scores a recording: a configured machine, or a model."""
    for option in (
        channel_option,
        click.option("--section", default="", help="Section of the model, if it has several."),
        click.option(
            "--model", "model_path", type=PATH, help="Model file; no configuration is read then."
        ),
        click.option("--machine", help="Machine of the configuration that was recorded."),
        config_option,
    ):
        command = option(command)
    return command


def duration(_context: click.Context, _option: click.Parameter, text: str | None) -> float:
    """Return the seconds that ``90s``, ``30m``, ``2h`` or ``1h30m`` mean; infinity for None."""
    if text is None:
        return math.inf
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    duration_s = 3600.0 * hours + 60.0 * minutes + seconds
    if duration_s == 0.0:
        raise click.BadParameter(f"{text!r} must be a duration such as 90s, 30m, 2h or 1h30m")
    return duration_s
