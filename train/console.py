"""The terminal: tables on stdout; progress bars on stderr, where they are shown at all."""

from __future__ import annotations

from rich.console import Console

console = Console(stderr=True)
"""For progress; bars are drawn on a terminal only."""
