"""Makes foreign text safe to show: one line of bounded length that cannot steer a terminal.

Text from model files, file names, payloads and peers ends up on a terminal, in the log and in
payloads.  All output passes `printable`: what is printed (`output.say`), drawn (`terminal.line`),
logged (`LineFormatter`), published (`payloads.encode`) and told to the service manager
(`systemd.notify`).
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
"""Characters of a line: more than any message of ours needs, and readable within a minute."""
_MOST_MARKS = 3
"""Combining marks on a letter: as many as living scripts need; more would cover other lines."""
_BLANKS = frozenset("\u034f\u115f\u1160\u3164\uffa0")
"""Letters and marks that are invisible: the combining grapheme joiner and the Hangul fillers."""
_LONGEST_MARK = 30
"""Characters at most of the mark that says how many characters were left out."""
_LONGEST_NUMBER = 10**40
"""Magnitude from which a whole number is described rather than written."""
_LONGEST_VALUE = 200
"""Characters of a value in a message."""
_LONGEST_TRACEBACK = 20_000
"""Characters of a traceback in the log."""


def printable(text: str, limit: int = LONGEST) -> str:
    """Return *text* as one line of at most *limit* characters that is safe on any terminal.

    Characters that end a line, steer a terminal, change the writing direction or are invisible
    become question marks; all kinds of blanks become spaces.  The middle of a text that is too long
    is replaced by the number of characters left out.
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
    """Return *text*, without its middle if it has more than *limit* characters.

    The middle is left out because a message begins with its subject and ends with the remedy.

    Args:
        text: The text.
        limit: Characters of the result at most; at least 40.
    """
    if len(text) <= limit:
        return text
    n_kept = limit - _LONGEST_MARK
    n_last = n_kept // 3
    mark = f"...{len(text) - n_kept} more..."
    return text[: n_kept - n_last] + mark + text[-n_last:]


def quoted(value: Any) -> str:
    """Return the ``repr`` of *value*, shortened to fit a message."""
    return shortened(_Values().repr(value), _LONGEST_VALUE)


class _Values(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002 - the signature of the base class
        if -_LONGEST_NUMBER < x < _LONGEST_NUMBER:
            return repr(x)
        # Writing all digits takes long, and Python refuses more than a few thousand.
        return f"<number of about {math.ceil(x.bit_length() * math.log10(2))} digits>"


def clock_time(duration_s: float) -> str:
    """Return a duration as hours, minutes and seconds, for example ``1:05:09``."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def rounded(value: float, n_digits: int) -> str:
    """Return *value* to *n_digits* significant digits, without powers of ten: ``15510``."""
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

    So nothing in a message or an exception can look like a line of the log.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in the base class
        """Return the line of *record*."""
        return printable(super().formatMessage(record))

    def formatException(  # noqa: N802 - the name in the base class
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Return the traceback of *ei*, indented."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the name in the base class
        """Return the lines of *stack_info*, indented."""
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(
        f"  {printable(line)}" for line in shortened(lines, _LONGEST_TRACEBACK).splitlines()
    )
