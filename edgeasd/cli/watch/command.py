"""The command ``watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeasd.cli.options import PATH, config_option, duration


@click.command()
@config_option
@click.option("--host", help="Broker; with it no configuration file is read.")
@click.option("--port", type=int, help="TCP port of the broker.")
@click.option("--base", help="Topic levels in front of edgeasd/v1.")
@click.option("--username", help="User name at the broker.")
@click.option("--password-file", type=PATH, help="File whose first line is the password.")
@click.option(
    "--ca-file", type=PATH, help="PEM file of the broker's certificate authority; enables TLS."
)
@click.option(
    "--duration", "duration_s", callback=duration, help="For example 30s; else until Ctrl-C."
)
def watch(*, config_path: Path, duration_s: float, **broker: Any) -> None:
    """Show the machines of a broker: state, score against threshold, last events."""
    from edgeasd.cli.watch.watcher import broker_of, watch_fleet

    given = {key: value for key, value in broker.items() if value is not None}
    if given and "host" not in given:
        raise click.UsageError(f"--{min(given).replace('_', '-')} needs --host")
    paths = {key: str(value) for key, value in given.items() if isinstance(value, Path)}
    watch_fleet(broker_of(config_path, given | paths), duration_s)
