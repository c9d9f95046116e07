"""The commands of the documentation work, and print what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.docs.pages import blocks, script_of
from tests.publish.brokers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]

PORT = "18833"
"""The broker's port in the documentation."""
WATCHED, WATCHED_IF_BUSY = "--duration 75s", "--duration 180s"
"""How long `edgeasd watch` shows a daemon there, and here, where the daemon may start late."""


def masked(line: str) -> str:
    """Return *line* without what differs from run to run: numbers and hashes."""
    return re.sub(r"\d[\d.:,]*", "#", re.sub(r"\b[0-9a-f]{12}\b", "#", line)).strip()


def run_page(page: str, folder: Path) -> str:
    """Run the commands of *page* in what looks like a checkout; return what they print."""
    programs = Path(sys.executable).parent
    environment = folder / ".venv" / "bin"
    environment.mkdir(parents=True)
    for name, text in {
        "python": f'exec {sys.executable} "$@"',
        "edgeasd": f'exec {programs}/edgeasd "$@"',
        "pip": "exit 0",
    }.items():
        (environment / name).write_text(f"#!/bin/sh\n{text}\n")
        (environment / name).chmod(0o755)
    (folder / "edgeasd").symlink_to(CHECKOUT / "edgeasd")

    script = script_of(page).replace(PORT, str(free_port())).replace(WATCHED, WATCHED_IF_BUSY)

    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )

    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize("page", ["docs/first-hour.md", "docs/recordings.md"])
def test_commands_print_what_the_page_shows(page: str, tmp_path: Path) -> None:
    """Typed one after the other they work, and each line that is shown is printed."""
    shown = [line for block in blocks("text", page=page) for line in block.text.splitlines()]

    printed = run_page(page, tmp_path)

    lines = {masked(line) for line in printed.splitlines()}
    assert [line for line in shown if line != "..." and masked(line) not in lines] == [], printed
