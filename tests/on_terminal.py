"""A command on a terminal of its own, and what the terminal shows."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.publish.brokers import wait_until

if TYPE_CHECKING:
    from types import TracebackType


class OnTerminal:
    """``edgeasd`` on a terminal of 30 lines of 110 columns; to be used in a ``with`` statement.

    Attributes:
        written: All that was written, with what steers the terminal.
    """

    def __init__(self, *arguments: object, environment: dict[str, str] | None = None) -> None:
        self.written = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
        variables = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeasd", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**variables, "TERM": "xterm", **(environment or {})},
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> None:
        """Wait until *text* was written, all in one go."""
        try:
            wait_until(lambda: text in self.written, f"{text!r} on the terminal")
        except AssertionError as exc:
            raise AssertionError(f"{exc}; its last words: {self.written[-600:]!r}") from exc

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(60.0)
        self._reader.join(60.0)
        return code

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a letter
        with suppress(OSError):  # the other end is closed
            while content := os.read(self._master, 65_536):
                self.written += decoder.decode(content)

    def __enter__(self) -> OnTerminal:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(60.0)
        os.close(self._master)
