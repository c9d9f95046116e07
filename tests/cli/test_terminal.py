"""What is drawn fits the terminal, replaces itself, and cannot be steered from elsewhere."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest
from rich.console import Group

from edgeasd.cli.terminal import can_draw, line, picture_on, progress
from edgeasd.common.output import say
from tests.on_terminal import shown

N_LINES, N_COLUMNS = 5, 20


class Terminal(io.StringIO):
    """A terminal that remembers what was written."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """The lines that it shows."""
        return shown(self.getvalue(), N_LINES, N_COLUMNS)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A small terminal."""
    monkeypatch.setenv("COLUMNS", str(N_COLUMNS))
    monkeypatch.setenv("LINES", str(N_LINES))
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_picture_draws_over_what_it_drew(terminal: Terminal) -> None:
    """The second picture begins where the first one did, and nothing of that one is left."""
    with picture_on(terminal) as live:
        assert live is not None
        live.update(Group(line("one"), line("two")), refresh=True)
        first = terminal.lines
        live.update(line("3"), refresh=True)
        second = terminal.lines

    assert first == ["one", "two"]
    assert second == ["3", ""]


def test_picture_is_cut_to_width_and_height(terminal: Terminal) -> None:
    """No line wraps and no picture scrolls, which would leave remains."""
    picture = Group(*[line(f"{number}" + "x" * 50) for number in range(10)])

    with picture_on(terminal) as live:
        assert live is not None
        live.update(picture, refresh=True)
        live.update(picture, refresh=True)
        lines = terminal.lines

    assert lines == [f"{number}" + "x" * 19 for number in range(5)]
    assert terminal.getvalue().count("x" * 20) == 0


def test_what_is_said_stays_above_the_next_picture(terminal: Terminal) -> None:
    """A message takes the place of the picture; the next picture does not draw over it."""
    with redirect_stderr(terminal), picture_on(terminal) as live:
        assert live is not None
        live.update(line("picture"), refresh=True)
        say("a note [red]", err=True)
        live.update(line("another"), refresh=True)

        assert terminal.lines == ["a note [red]", "another"]


def test_line_cannot_steer_the_terminal(terminal: Terminal) -> None:
    """Foreign text is neither a control sequence nor markup, and its marks cover no other line."""
    with picture_on(terminal) as live:
        assert live is not None
        live.update(line("\x1b[2J[red]:bell:\u202e\n" + "e\u0301" + "\u0301" * 9), refresh=True)

        assert terminal.lines == ["?[2J[red]:bell:??e" + "\u0301" * 3 + "?"]


def test_progress_is_drawn_on_a_terminal_and_disappears(terminal: Terminal) -> None:
    """While it lasts, there is a percentage; in the end only what was said is left."""
    with redirect_stderr(terminal), progress("[b]scoring", 4) as advance:
        advance(1)
        say("a warning", err=True)

    written = terminal.getvalue()
    assert "[b]scoring   25 %" in written
    assert [each for each in terminal.lines if each] == ["a warning"]
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")  # the cursor is back


@pytest.mark.parametrize("term", ["dumb", None])
def test_progress_is_not_drawn_elsewhere(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, term: str | None
) -> None:
    """A log has no bars, whatever the environment says of colours; nor has a dumb terminal."""
    pipe = io.StringIO()
    monkeypatch.setenv("FORCE_COLOR", "1")

    with redirect_stderr(pipe), progress("scoring", 4) as advance:
        advance(1)
    with redirect_stderr(terminal), progress("scoring", 4, hidden=True) as advance:
        advance(1)
    if term is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", term)
    with redirect_stderr(terminal), progress("scoring", 4) as advance:
        advance(1)

    assert pipe.getvalue() == terminal.getvalue() == ""


def test_can_draw_neither_to_a_pipe_nor_on_a_dumb_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawing needs a terminal, and one that says that it can move its cursor."""
    assert can_draw(terminal)
    assert not can_draw(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not can_draw(terminal)
    monkeypatch.delenv("TERM")
    assert not can_draw(terminal)
