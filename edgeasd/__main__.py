"""``python -m edgeasd``, and the command ``edgeasd``."""

from __future__ import annotations

import sys

from edgeasd.service.process import signals


def start() -> None:
    """Run the command line as a program."""
    if sys.argv[1:2] == ["run"]:
        # Before what takes time: a signal would end the process without a word meanwhile.
        signals.hold()
    from edgeasd.cli.main import start  # noqa: PLC0415

    start()


if __name__ == "__main__":
    start()
