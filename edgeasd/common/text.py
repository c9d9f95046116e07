"""Text that came from elsewhere, as it is shown: one line, of bounded length, that steers nothing.

Model files, file names, payloads and peers hold words that end on a terminal, in the log and in
payloads.  Every way out of the program passes `printable`: what is printed (`output.say`), drawn
(`terminal.Screen`), logged (`LineFormatter`), published (`payloads.encode`) and told to the service
manager (`systemd.notify`).
"""

from __future__ import annotations

import logging
import math
import reprlib
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

LONGEST = 1000
"""Characters of a line: more than any message of ours needs, and read within a minute."""
_MOST_MARKS = 3
"""Combining marks on a letter: what living scripts need; more of them cover the lines around."""
_BLANKS = frozenset("\u034f\u115f\u1160\u3164\uffa0")
"""Letters and marks that show nothing: the combining joiner, and the fillers of Hangul."""
_LONGEST_MARK = 30
"""Characters that tell how many were left out."""
_LONGEST_NUMBER = 10**40
_LONGEST_VALUE = 200
_LONGEST_TRACEBACK = 20_000


def printable(text: str, limit: int = LONGEST) -> str:
    """Return *text* as one line of at most *limit* characters that any terminal shows as it is.

    What ends a line, steers a terminal, changes the direction of writing or shows nothing becomes a
    question mark, a blank of another kind a blank; what is left out of the middle is counted.
    """
    text = shortened(text, limit)
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    n_marks = 0
    for character in text:
        category = unicodedata.category(character)
        n_marks = n_marks + 1 if category in {"Mn", "Me"} else 0
        if n_marks <= _MOST_MARKS:
            shown.append(_shown(character, category))
        elif n_marks == _MOST_MARKS + 1:
            shown.append("?")
    return "".join(shown)


def _shown(character: str, category: str) -> str:
    if category == "Zs" or character == "\t":
        return " "
    return character if character.isprintable() and character not in _BLANKS else "?"


def shortened(text: str, limit: int) -> str:
    """Return *text*, without its middle where it has more than *limit* characters.

    A message begins with the thing and ends with the remedy.

    Args:
        text: Any text.
        limit: At least 40.
    """
    if len(text) <= limit:
        return text
    n_kept = limit - _LONGEST_MARK
    n_last = n_kept // 3
    mark = f"...{len(text) - n_kept} more..."
    return text[: n_kept - n_last] + mark + text[-n_last:]


def quoted(value: Any) -> str:
    """Return *value* as Python writes it, cut to what a message has room for."""
    return shortened(_Values().repr(value), _LONGEST_VALUE)


class _Values(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - as overridden
        if -_LONGEST_NUMBER < x < _LONGEST_NUMBER:
            return repr(x)
        # To write it all takes long, and Python refuses more than some thousand digits.
        return f"<number of about {math.ceil(x.bit_length() * math.log10(2))} digits>"


def clock_time(duration_s: float) -> str:
    """Return a duration as hours, minutes and seconds, for example ``1:05:09``."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def rounded(value: float, n_digits: int) -> str:
    """Return *value* to so many digits, for people: ``110`` and ``15510`` rather than powers."""
    return f"{float(f'{value:.{n_digits}g}'):.12g}"


def rough_time(duration_s: float) -> str:
    """Return a duration in its largest units, for example ``3 d 4 h``, ``12 min`` or ``0.4 s``."""
    if duration_s < 10.0:  # noqa: PLR2004
        return f"{max(0.0, duration_s):.1f} s"
    n_minutes, n_hours, n_days = (round(duration_s // unit) for unit in (60, 3_600, 86_400))
    if n_days:
        return f"{n_days} d {n_hours % 24} h"
    if n_hours:
        return f"{n_hours} h {n_minutes % 60} min"
    return f"{n_minutes} min" if n_minutes else f"{duration_s:.0f} s"


class LineFormatter(logging.Formatter):
    """Formats a record as one line, and a traceback as indented lines below it.

    Whatever is in the message or in an exception, no line begins like one of the log but those that
    are.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as overridden
        """Return the line of *record*."""
        return printable(super().formatMessage(record))

    def formatException(  # noqa: N802 - as overridden
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Return the traceback of *ei*, indented."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - as overridden
        """Return the lines of *stack_info*, indented."""
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(
        f"  {printable(line)}" for line in shortened(lines, _LONGEST_TRACEBACK).splitlines()
    )
