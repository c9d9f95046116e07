"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from tests.conftest import CHECKOUT

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "SECURITY.md",
    CHECKOUT / "CHANGELOG.md",
    CHECKOUT / "train" / "README.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]
NAMES = [path.relative_to(CHECKOUT).as_posix() for path in PAGES]

NOT_RUN = {
    ("README.md", "make run"): "tests/cli/test_demo.py runs the demo",
    ("README.md", "make test"): "is what runs this",
    ("CONTRIBUTING.md", "make check"): "is what runs this, or takes too long",
    ("CONTRIBUTING.md", "make test-slow"): "is what runs this, or takes too long",
    ("CONTRIBUTING.md", ".venv/bin/python -m pytest tests/detect -x"): "is what runs this",
    ("docs/calibration.md", "edgeasd learn"): "tests/offline/test_learn_calibrate.py runs it",
    ("docs/calibration.md", "edgeasd calibrate"): "tests/offline/test_learn_calibrate.py runs it",
    (
        "docs/first-hour.md",
        "edgeasd devices",
    ): "needs a microphone; tests/capture has a virtual one",
    ("docs/install.md", "sudo deploy/install.sh"): "tests/deploy runs it in a Debian of its own",
    ("docs/install.md", "pip download"): "downloads 200 MB; tests/deploy does so for its Debian",
    ("docs/measured.md", "make"): "takes up to an hour",
    ("docs/measured.md", "python -m tests.benchmarks"): "takes hours",
    (
        "docs/operation.md",
        "sudo systemctl reload edgeasd",
    ): "tests/deploy/test_unit_system.py runs it",
    ("docs/training.md", "pip install"): "downloads PyTorch",
    (
        "train/README.md",
        "python -m train",
    ): "takes a GPU, or hours; the first commands are run below",
    (
        "train/README.md",
        "torchrun",
    ): "needs four GPUs; tests/train/runs/test_team.py runs two processes",
}
"""Why a block of commands is not run: by its page and how it begins."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: Path of the page, from the checkout on.
        language: What follows the opening fence: ``sh`` for commands, ``text`` for what the
            commands of the page print, ``json``, ``toml``, or nothing.
        text: The lines between the fences.
    """

    page: str
    language: str
    text: str

    @property
    def reason_not_to_run(self) -> str:
        """Why its commands are not run; empty when they are."""
        for (page, beginning), reason in NOT_RUN.items():
            if page == self.page and self.text.startswith(beginning):
                return reason
        return ""


def read_page(name: str) -> str:
    """Return the text of the page *name*, a path from the checkout on."""
    return (CHECKOUT / name).read_text(encoding="utf-8")


def blocks(*languages: str, page: str = "") -> list[Block]:
    """Return all blocks in *languages*, of *page* or of all pages."""
    found = [
        Block(name, language, textwrap.dedent(text))
        for name in ([page] if page else NAMES)
        for _, language, text in re.findall(
            r"^( *)```(\w*)\n(.*?)^\1```$", read_page(name), flags=re.DOTALL | re.MULTILINE
        )
    ]
    return [block for block in found if block.language in languages]


def script_of(page: str) -> str:
    """Return the commands of *page* that are run, in order."""
    run = [block.text for block in blocks("sh", page=page) if not block.reason_not_to_run]
    return "".join(run)


def command_lines() -> list[tuple[str, str]]:
    """Return the page and the text of each command line in the blocks of commands."""
    return [
        (block.page, line)
        for block in blocks("sh")
        for line in block.text.replace("\\\n", " ").splitlines()
    ]


def section(page: str, title: str) -> str:
    """Return the text of *page* under the heading *title*, up to the next heading."""
    _, _, rest = read_page(page).partition(f"# {title}\n")
    assert rest, f"{page}: {title}"
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> list[str]:
    """Return the code in the first column of the table in *text*."""
    return re.findall(r"^\| `([^`]*)` \|", text, flags=re.MULTILINE)
