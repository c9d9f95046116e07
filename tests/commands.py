"""Commands without a Python process for each, whose imports take seconds."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from edgeasd.cli.main import start
from edgeasd.models import cache
from edgeasd.models.trial import Trials

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def edgeasd(
    *arguments: object, cwd: Path | None = None, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """Run a command within this process, and return how it would have ended a process of its own.

    What only a process shows is tested in one: exit while threads hang, standard output that is
    closed, signals, and what Python does by itself when it starts and ends.

    Args:
        arguments: The words of the command line.
        cwd: Working directory of the command.
        encoding: What standard output and standard error are written in.
    """
    with one_trial_process():
        return in_this_process(start, *arguments, cwd=cwd, encoding=encoding)


def in_this_process(
    program: Callable[[], None],
    *arguments: object,
    cwd: Path | None = None,
    encoding: str = "utf-8",
) -> subprocess.CompletedProcess[str]:
    """Run a *program* with *arguments* as its command line; otherwise as `edgeasd`."""
    words = [str(argument) for argument in arguments]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", ["edgeasd", *words]))
        stack.enter_context(_working_directory(cwd or Path.cwd()))
        stdout = stack.enter_context(_written("stdout", encoding))
        stderr = stack.enter_context(_written("stderr", encoding))
        stack.enter_context(_process_wide_settings())
        code = _exit_code(program)
        sys.stdout.flush()
        sys.stderr.flush()
    return subprocess.CompletedProcess(
        words, code, *(_text(file, encoding) for file in (stdout, stderr))
    )


def _exit_code(program: Callable[[], None]) -> int:
    """Run the program, and return the exit code that Python makes of what it raises."""
    try:
        program()
    except SystemExit as exc:
        if isinstance(exc.code, str):
            sys.stderr.write(f"{exc.code}\n")
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except Exception as exc:  # noqa: BLE001 - the hook tells it, whatever it is
        sys.excepthook(type(exc), exc, exc.__traceback__)
        return 1
    return 0


def _text(file: io.BufferedRandom, encoding: str) -> str:
    with file:
        file.seek(0)
        return file.read().decode(encoding, "surrogateescape")


@contextlib.contextmanager
def _written(name: str, encoding: str) -> Iterator[io.BufferedRandom]:
    """Have a standard stream, its descriptor included, lead to the file that is given."""
    number = {"stdout": 1, "stderr": 2}[name]
    file = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed after all was written
    kept = os.dup(number)
    os.dup2(file.fileno(), number)
    errors = "backslashreplace" if name == "stderr" else "strict"
    stream = open(number, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    try:
        with mock.patch.object(sys, name, stream):
            yield file
    finally:
        with contextlib.suppress(OSError):
            stream.close()
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def _working_directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _process_wide_settings() -> Iterator[None]:
    """Give a command the log, the hooks and the signals of a new process; then bring back ours."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    signals = {number: signal.getsignal(number) for number in _SIGNALS}
    others, all_threads = set(threading.enumerate()), threading.enumerate

    def own_threads() -> list[threading.Thread]:
        """Leave out what earlier tests left behind: the threads of devices that hang."""
        return [thread for thread in all_threads() if thread not in others]

    with (
        mock.patch.object(threading, "enumerate", own_threads),
        mock.patch.object(sys, "excepthook", sys.__excepthook__),
        mock.patch.object(threading, "excepthook", threading.__excepthook__),
        mock.patch.object(os, "_exit", side_effect=AssertionError("it would end the process")),
        warnings.catch_warnings(),
    ):
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            for number, handler in signals.items():
                signal.signal(number, handler)


@functools.cache
def _trials() -> SimpleNamespace:
    """Return what tries models in one process, which lasts as long as this one."""
    trials, lock = Trials(), threading.Lock()
    atexit.register(trials.close)

    def fault_of(content: bytes, digest: str) -> str:
        with lock:
            return trials.fault_of(content, digest)

    return SimpleNamespace(fault_of=fault_of, close=lambda: None)


@contextlib.contextmanager
def one_trial_process() -> Iterator[None]:
    """Have all models be tried in one process: to start one for each takes half a second."""
    with mock.patch.object(cache, "Trials", _trials):
        yield
