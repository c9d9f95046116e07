"""A recording made by another process, followed line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]


class Recording:
    """A process that records, and what it has told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Read lines until one of them meets *condition*."""
        deadline_s = time.monotonic() + 20.0
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self.lines.append(json.loads(text))
            if condition(self.lines[-1]):
                return
            assert time.monotonic() < deadline_s, self.lines[-1]
        pytest.fail("the recording ended")

    def finish(self) -> list[dict[str, Any]]:
        """Wait for the end and return the lines that stand for blocks."""
        rest, _ = self._process.communicate(timeout=60.0)
        self.lines += map(json.loads, rest.splitlines())
        assert self._process.returncode == 0
        return [line for line in self.lines if "n_samples" in line]


@contextmanager
def recording(
    device: str, environment: dict[str, str], n_samples: int, path: Path
) -> Iterator[Recording]:
    """Record *n_samples* of *device* to *path* in another process."""
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.capture.record_microphone",
            device,
            str(n_samples),
            str(path),
        ],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Recording(process)
        finally:
            process.kill()
