"""The commands with which a microphone becomes a model that can be trusted.

Each imports what it needs: ``edgeasd --help`` is quick.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgeasd.cli.options import CHANNEL, PATH, config_option, duration
from edgeasd.common.config_file import find_machine
from edgeasd.common.output import say, say_json

_MARKS = {"ok": "ok  ", "warning": "warn", "failure": "FAIL"}


@click.command()
@config_option
@click.option("--device", help="Microphone as 'edgeasd devices' lists it; else the default one.")
@click.option(
    "--channel",
    "channels",
    type=CHANNEL,
    multiple=True,
    help="Channel, counted from 0; may be given again.",
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
    """Show the level of a microphone, or of what listens to MACHINE, with a verdict in the end."""
    from edgeasd.cli.listen import channels_of, listen

    if machine is None:
        listen(channels_of(device or "", channels), duration_s)
    elif device is not None or channels:
        raise click.UsageError(
            "MACHINE names a microphone already; leave --device and --channel out"
        )
    else:
        from edgeasd.offline.recordings.recordings import features_for

        found = find_machine(config_path, machine)
        listen([found.source], duration_s, features_for(found.model))


@click.command()
@config_option
@click.option("--section", help="Two digits; else the machine's of the configuration, or 00.")
@click.option(
    "--domain",
    type=click.Choice(["source", "target"]),
    default="source",
    show_default=True,
    help="target: after a change of conditions.",
)
@click.option("--duration", "duration_s", callback=duration, required=True, help="For example 2h.")
@click.option(
    "--out", type=PATH, help="Folder of the recordings; else one here with the machine's name."
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

    Called again, it continues what was interrupted.
    """
    from edgeasd.cli.record import record
    from edgeasd.offline.recordings.folder import Place

    found = find_machine(config_path, machine)
    place = Place(out or Path(machine), section or found.section or "00", domain)
    record(found, place, duration_s)


@click.command()
@config_option
@click.option("--host", help="Broker; given, no configuration file is read.")
@click.option("--port", type=int, help="Broker's TCP port.")
@click.option("--base", help="Topic levels in front of edgeasd/v1.")
@click.option("--username", help="Broker account.")
@click.option("--password-file", type=PATH, help="File whose first line is the password.")
@click.option("--ca-file", type=PATH, help="PEM file of the broker's authority; switches TLS on.")
@click.option(
    "--duration", "duration_s", callback=duration, help="For example 30s; else until Ctrl-C."
)
def watch(*, config_path: Path, duration_s: float, **broker: Any) -> None:
    """Show the machines of a broker: state, score against threshold, last events."""
    from edgeasd.cli.watch.watch import broker_of, watch

    given = {key: value for key, value in broker.items() if value is not None}
    if given and "host" not in given:
        raise click.UsageError(f"--{min(given).replace('_', '-')} needs --host")
    paths = {key: str(value) for key, value in given.items() if isinstance(value, Path)}
    watch(broker_of(config_path, given | paths), duration_s)


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
def check(*, config_path: Path, as_json: bool) -> None:
    """Check configuration, models, sound, disk, clock, service and broker; a verdict a line."""
    from edgeasd.cli.check.run import run_checks

    exit_code = 0
    for verdict in run_checks(config_path):
        exit_code = exit_code or verdict.exit_code
        if as_json:
            say_json(asdict(verdict))
        else:
            say(f"{_MARKS[verdict.grade]} {verdict.subject}: {verdict.text}")
        sys.stdout.flush()
    sys.exit(exit_code)


@click.command()
@config_option
@click.option("--machine", help="Machine of the configuration that the recording is of.")
@click.option("--model", "model_path", type=PATH, help="Model file; no configuration is read then.")
@click.option("--section", default="", help="Section of the model, if it has several.")
@click.option(
    "--channel", type=CHANNEL, default=0, show_default=True, help="Channel, counted from 0."
)
@click.option(
    "--normal",
    "normal_files",
    type=PATH,
    multiple=True,
    help="Recording of normal sound to compare with, if not what the model knows; repeatable.",
)
@click.option("--picture", type=PATH, help="PNG file to draw: spectrum, bands and moments.")
@click.argument("event")
def explain(
    *,
    config_path: Path,
    machine: str | None,
    model_path: Path | None,
    section: str,
    channel: int,
    normal_files: tuple[Path, ...],
    picture: Path | None,
    event: str,
) -> None:
    """Tell what in a sound makes its score: bands, tones, impacts.

    EVENT is the id of an alarm's start, whose clip is looked for, or a recording.
    """
    from edgeasd.models.cache import open_model
    from edgeasd.offline.explain.run import (
        Case,
        explain_file,
        find_event,
        plot_explanation,
        replay_of,
        verdict,
    )
    from edgeasd.offline.replay import Replay

    if model_path is not None:
        case = Case(Path(event), Replay(open_model(model_path), section, channel))
    elif machine is not None:
        case = Case(Path(event), replay_of(find_machine(config_path, machine), channel))
    else:
        case = find_event(config_path, event)
    explanation, normal = explain_file(case, normal_files)
    say(verdict(case, explanation))
    for words in explanation.words:
        say(words)
    if picture is not None:
        plot_explanation(picture, case, explanation, normal)
