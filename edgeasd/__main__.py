"""``python -m edgeasd``."""

from edgeasd.cli import start

start()
