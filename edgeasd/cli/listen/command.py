"""The commands ``listen`` and ``devices``."""

from __future__ import annotations

from pathlib import Path

import click

from edgeasd.cli.options import CHANNEL, config_option, duration
from edgeasd.common.config.file import find_machine
from edgeasd.common.output import say, say_json


@click.command()
@config_option
@click.option("--device", help="Microphone as listed by 'edgeasd devices'; else the default one.")
@click.option(
    "--channel",
    "channels",
    type=CHANNEL,
    multiple=True,
    help="Channel, counted from 0; repeatable.",
)
@click.option(
    "--duration", "duration_s", callback=duration, help="For example 30s; else until Ctrl-C."
)
@click.argument("machine", required=False)
def listen(
    *,
    config_path: Path,
    device: str | None,
    channels: tuple[int, ...],
    duration_s: float,
    machine: str | None,
) -> None:
    """Show the level of a microphone, or of the source of MACHINE, and end with a verdict."""
    from edgeasd.cli.listen.level_meter import channels_of, show_levels

    if machine is None:
        show_levels(channels_of(device or "", channels), duration_s)
    elif device is not None or channels:
        raise click.UsageError(
            "MACHINE names a microphone already; leave --device and --channel out"
        )
    else:
        from edgeasd.offline.recordings.recordings import features_for

        found = find_machine(config_path, machine)
        show_levels([found.source], duration_s, features_for(found.model))


@click.command()
def devices() -> None:
    """List the microphones of this computer, one line of JSON each.

    Copy the value of "device" to microphone.device; it survives renumbering.
    """
    from edgeasd.cli.listen.level_meter import describe_devices

    found = False
    for device in describe_devices():
        found = True
        say_json(device)
    if not found:
        say("edgeasd: no microphone is there; connect one", err=True)
