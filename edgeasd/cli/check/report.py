"""What a check found, as one line of the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgeasd.common.errors import EdgeasdError
from edgeasd.common.text import printable


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found that did not fail.

    Attributes:
        text: The result in words; if doubtful, with a remedy.
        doubtful: Whether the daemon works, but perhaps not as intended.
    """

    text: str
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """One line of the output of ``edgeasd check``.

    Attributes:
        subject: What was checked.
        text: What was found; for a warning or a failure, with a remedy.
        grade: How serious it is.
        exit_code: Exit code for the command; 0 unless the check failed.
    """

    subject: str
    text: str
    grade: Literal["ok", "warning", "failure"] = "ok"
    exit_code: int = 0

    def __post_init__(self) -> None:
        # Programs that read the report as JSON show it too.
        object.__setattr__(self, "subject", printable(self.subject))
        object.__setattr__(self, "text", printable(self.text))


def run_check(subject: str, check: Callable[[], CheckResult]) -> CheckReport:
    """Return what *check* returns or raises, as a report on *subject*."""
    try:
        result = check()
    except EdgeasdError as exc:
        return CheckReport(subject, str(exc), "failure", exc.exit_code)
    return CheckReport(subject, result.text, "warning" if result.doubtful else "ok")
