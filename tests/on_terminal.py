"""A command on a terminal of its own, and what the terminal shows in the end."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.cells import cell_len

from tests.publish.brokers import wait_until

if TYPE_CHECKING:
    from types import TracebackType

_WRITTEN = re.compile(r"(\x1b\[([?0-9;]*)([A-Za-z]))|(.|\n)")


def shown(written: str, n_lines: int, n_columns: int) -> list[str]:
    """Return the lines of a terminal after what was *written*, without blanks at their ends.

    It knows what rich writes: line feeds, carriage returns, the cursor up, lines erased, colours.
    """
    rows: list[list[str]] = [[]]  # of cells, of which a wide letter takes a second, empty one
    row = column = 0
    for control, parameter, letter, character in _WRITTEN.findall(written):
        width = cell_len(character) if character not in "\r\n" else 0
        if letter == "A":
            row = max(0, row - int(parameter or 1), len(rows) - n_lines)
        elif letter == "K":
            rows[row] = [] if parameter == "2" else rows[row][:column]
        elif character == "\r":
            column = 0
        elif character == "\n" or column + width > n_columns:
            row, column = row + 1, 0
            rows += [[] for _ in range(row + 1 - len(rows))]
        if width:
            rows[row] += [" "] * (column - len(rows[row]))
            rows[row][column : column + width] = [character] + [""] * (width - 1)
            column += width
        elif not control and character not in "\r\n":
            rows[row][column - 1] += character
    return ["".join(cells).rstrip() for cells in rows[-n_lines:]]


class OnTerminal:
    """``edgeasd`` on a terminal of its own; to be used in a ``with`` statement.

    Args:
        arguments: Arguments of the command.
        environment: Variables to set.
        size: Lines and columns of the terminal.

    Attributes:
        written: All that was written, with what steers the terminal.
    """

    def __init__(
        self,
        *arguments: object,
        environment: dict[str, str] | None = None,
        size: tuple[int, int] = (30, 110),
    ) -> None:
        self._size = size
        self.written = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
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
            wait_until(lambda: text in self.written, f"{text!r} on the terminal", 40.0)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; its last words: {self.written[-600:]!r}") from exc

    @property
    def shown(self) -> list[str]:
        """The lines that the terminal shows."""
        return shown(self.written, *self._size)

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Wait for the end of the command, and return the exit code."""
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
        self._reader.join(5.0)
        os.close(self._master)
