"""How a command ends when something is wrong: lines on standard error, and an exit code."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgeasd.common.errors import EdgeasdError
from edgeasd.common.output import say
from edgeasd.common.text import printable
from edgeasd.service.process.systemd import is_journal


def say_error(error: EdgeasdError) -> None:
    """Print each line of *error* on standard error, for the journal with its priority."""
    priority = "<3>" if is_journal(sys.stderr) else ""
    for line in error.lines:
        say(f"{priority}edgeasd: {line}", err=True)


class Group(click.Group):
    """Turns an `EdgeasdError` of a command into a message and its exit code, in this one place."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the command line names."""
        try:
            return self._invoke_with_extras(ctx)
        except EdgeasdError as exc:
            say_error(exc)
            ctx.exit(exc.exit_code)
        except click.UsageError as exc:
            # It quotes its arguments, and so perhaps the name of a file.
            raise click.UsageError(printable(exc.format_message()), exc.ctx) from exc

    def _invoke_with_extras(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.partition(".")[0] != "matplotlib":
                raise
            raise EdgeasdError(
                "pictures need matplotlib; install it with: pip install 'edgeasd[plot]'"
            ) from exc
