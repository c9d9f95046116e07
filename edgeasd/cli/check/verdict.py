"""What a check found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgeasd.common.errors import EdgeasdError
from edgeasd.common.text import printable


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check that did not fail found.

    Attributes:
        text: In words; of a doubt, with its remedy.
        doubtful: Whether the daemon works, but perhaps not as wanted.
    """

    text: str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Attributes:
        subject: What was checked.
        text: The finding; of a warning or a failure, with its remedy.
        grade: How it is.
        exit_code: Of the command; 0 unless it is a failure.
    """

    subject: str
    text: str
    grade: Literal["ok", "warning", "failure"] = "ok"
    exit_code: int = 0

    def __post_init__(self) -> None:
        # Programs that read it as JSON show it too.
        object.__setattr__(self, "subject", printable(self.subject))
        object.__setattr__(self, "text", printable(self.text))


def judge(subject: str, find: Callable[[], Finding]) -> Verdict:
    """Return what *find* returns or raises, as a verdict on *subject*."""
    try:
        finding = find()
    except EdgeasdError as exc:
        return Verdict(subject, str(exc), "failure", exc.exit_code)
    return Verdict(subject, finding.text, "warning" if finding.doubtful else "ok")
