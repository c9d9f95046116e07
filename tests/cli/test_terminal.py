"""What is drawn fits the terminal, replaces itself, and cannot be steered from elsewhere."""

from __future__ import annotations

import io
import math

import pytest

from edgeasd.cli.terminal import Line, Screen, bar, can_draw, sparkline
from edgeasd.common.text import clock_time, rough_time, rounded


@pytest.fixture(autouse=True)
def _size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")


def test_screen_draws_over_what_it_drew() -> None:
    """The second picture begins where the first one did."""
    stream = io.StringIO()
    screen = Screen(stream)

    screen.draw([Line("one"), Line("two")])
    first = stream.getvalue()
    screen.draw([Line("three")])

    assert first.startswith("\rone")
    assert stream.getvalue()[len(first) :].startswith("\r\x1b[2Athree")
    assert stream.getvalue().endswith("\x1b[K\n\x1b[J")


def test_screen_cuts_to_width_and_height() -> None:
    """No line wraps and no picture scrolls, which would leave remains; the rest is counted."""
    stream = io.StringIO()

    Screen(stream).draw([Line("x" * 50)] * 10)

    assert stream.getvalue().count("\n") == 4
    assert "x" * 19 in stream.getvalue()
    assert "x" * 20 not in stream.getvalue()
    assert "... and 7 lines mor\x1b" in stream.getvalue()


def test_screen_says_what_stays_above_the_next_picture() -> None:
    """A note takes the place of the picture; the next picture does not draw over it."""
    stream = io.StringIO()
    screen = Screen(stream)
    screen.draw([Line("picture")])

    screen.say("note")
    start = len(stream.getvalue())
    screen.draw([Line("picture")])

    assert stream.getvalue()[start:].startswith("\rpicture")


def test_can_draw_neither_to_a_pipe_nor_on_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing needs a terminal, and one that says that it can move its cursor."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert can_draw(Terminal())
    assert not can_draw(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not can_draw(Terminal())
    monkeypatch.delenv("TERM")
    assert not can_draw(Terminal())


def test_bar_is_of_its_width_for_every_value() -> None:
    """Beyond the scale, and of nothing, it is full or empty."""
    values = (-math.inf, -90.0, -80.0, -40.0, 0.0, 10.0)

    bars = [bar(value, -80.0, 0.0, 8) for value in values]

    assert [text.count("#") for text in bars] == [0, 0, 0, 4, 8, 8]
    assert {len(text) for text in bars} == {8}


def test_sparkline_goes_from_low_to_high() -> None:
    """The lowest block is the low end, the highest all above the high end."""
    assert sparkline([-1, 0, 4, 7, 99], 0, 8, ascii_only=False) == "▁▁▅██"
    assert sparkline([0, 7], 0, 8, ascii_only=True) == "_@"
    assert sparkline([1, 1], 1, 1, ascii_only=True) == "__"


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0.0, "0:00:00"), (3909.4, "1:05:09"), (36e4, "100:00:00")]
)
def test_clock_time_is_hours_minutes_seconds(duration_s: float, text: str) -> None:
    """Hours go on after a day."""
    assert clock_time(duration_s) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (-0.2, "0.0 s"),
        (0.44, "0.4 s"),
        (59.0, "59 s"),
        (61.0, "1 min"),
        (7_260.0, "2 h 1 min"),
        (273_600.0, "3 d 4 h"),
    ],
)
def test_rough_time_has_the_largest_units(duration_s: float, text: str) -> None:
    """An age is told as exactly as it matters."""
    assert rough_time(duration_s) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.0, "1"), (657.11, "657.1"), (14_835.1, "14840"), (0.0451, "0.0451")],
)
def test_rounded_number_is_written_without_powers_of_ten(value: float, text: str) -> None:
    """A threshold of 14840 is no 1.484e+04 for who has to compare it with a score."""
    assert rounded(value, 4) == text
