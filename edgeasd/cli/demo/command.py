"""The command ``demo``."""

from __future__ import annotations

import sys

import click


@click.command()
def demo() -> None:
    """Run the daemon on a simulated machine and print what an MQTT subscriber receives.

    It takes a minute and needs neither a microphone nor a broker: an MQTT broker is embedded.
    """
    from edgeasd.cli.demo.demo import run_demo

    sys.exit(0 if run_demo() else 1)
