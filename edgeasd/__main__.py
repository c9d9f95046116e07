"""``python -m edgeasd``."""

from edgeasd.cli import main

main(prog_name="edgeasd")
