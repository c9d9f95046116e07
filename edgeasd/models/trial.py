"""Models are tried in a process of their own before they are used in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_PATIENCE_S = 60.0
"""Seconds that one model may take on a computer that is busy with other things.  If a single step
takes 5 s of computing, the kernel ends the process before that."""
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from edgeasd.models.trial_process import serve; serve()"
)
_INHERITED = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PATH")


class Trials:
    """Tries models one after the other in a child process, which is started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._faults: dict[str, str] = {}

    def fault_of(self, content: bytes, digest: str) -> str:
        """Return why a model file cannot be used, in words; empty if it can.

        It may contradict itself, fail on sound of some kind, take too much memory or time, or bring
        the child process down.

        Args:
            content: Bytes of the file.
            digest: Digest of these bytes; the same bytes are tried only once.

        Raises:
            OSError: If no process can be started.
        """
        if digest not in self._faults:
            self._faults[digest] = self._tried(content)
        return self._faults[digest]

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _tried(self, content: bytes) -> str:
        process = self._process = self._process or _start()
        timer = threading.Timer(_PATIENCE_S, process.kill)
        timer.daemon = True
        timer.start()
        try:
            return _asked(process, content)
        finally:
            timer.cancel()
            if process.returncode is not None:
                self.close()


def _start() -> subprocess.Popen[bytes]:
    inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    # Isolated: what it imports depends neither on the working directory nor on the user's settings.
    process = subprocess.Popen(  # noqa: S603 - this Python, and nothing from a model
        [sys.executable, "-I", "-c", _PROGRAM, *filter(None, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**inherited, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        _read_answer(process)
    except ValueError as exc:
        _end(process)
        raise ChildProcessError(f"it ended with exit code {process.returncode}") from exc
    return process


def _asked(process: subprocess.Popen[bytes], content: bytes) -> str:
    assert process.stdin is not None
    try:
        process.stdin.write(len(content).to_bytes(8, "big"))
        process.stdin.write(content)
        process.stdin.flush()
        return _read_answer(process)
    except (OSError, ValueError):  # the process has ended
        code = process.wait()
    if code == -signal.SIGXCPU:
        return "does not come to an end, in loading or on sound of some kind; export it again"
    if code == -signal.SIGKILL:
        return "takes too much time or memory for this computer; take a smaller network"
    return f"brings down the process that tries it (exit code {code}); export it again"


def _read_answer(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return str(json.loads(process.stdout.readline()))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # nobody is there to read what is still to be written
                pipe.close()
