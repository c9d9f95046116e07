"""Text from elsewhere: one line, of bounded length, that steers nothing, on every way out."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.documents.reading import DocumentError
from edgeasd.common.text import (
    LONGEST,
    LineFormatter,
    clock_time,
    printable,
    quoted,
    rough_time,
    rounded,
    shortened,
)
from edgeasd.publish.payloads.encoding import encode
from edgeasd.service.process.systemd import JournalFormatter, notify
from tests.commands import edgeasd
from tests.conftest import CHECKOUT
from tests.detect.models import make_content, make_document

FORGED = "ok   broker: all is well"
WORST = {
    "escapes": f"\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m\n{FORGED}",
    "line ends": "".join(f"a{end}{FORGED}" for end in "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029"),
    "C1 controls": "\x9b2J\x90q\x9d0;title\x9c",
    "directions": "\u202eabc\u2066\u200f\u061c",
    "nothing to see": "a\u200b\u200d\ufeff\u2060\u00ad\u034f\u115f\u3164\uffa0\U000e0041b",
    "marks on a letter": "Z" + "\u0301\u0489\u20dd" * 2_000,
    "no text": "\ud800\udcff\ufffe\U0010ffff\ue000",
    "twenty megabytes": "x" * 20_000_000,
}
TEXTS = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    list(WORST.values())
)


def is_harmless(text: str) -> bool:
    """Whether *text* is one line that steers nothing, and covers no other."""
    kinds = "".join("M" if unicodedata.category(one) in {"Mn", "Me"} else "x" for one in text)
    return text.isprintable() and "M" * 4 not in kinds


@given(TEXTS, st.integers(40, 2_000))
def test_printable_is_one_harmless_line_of_bounded_length(text: str, limit: int) -> None:
    """Whatever it is made of, and made so once it stays as it is."""
    shown = printable(text, limit)

    assert is_harmless(shown)
    assert len(shown) <= limit
    assert printable(shown, limit) == shown


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_printable_shows_that_something_was_there(text: str) -> None:
    """Nothing is left out in silence."""
    shown = printable(text)

    assert is_harmless(shown)
    assert "?" in shown or "more..." in shown


def test_printable_leaves_nothing_that_steers_a_terminal() -> None:
    """Escape sequences, line ends and marks of direction become question marks."""
    assert printable("ok\x1b[2J\n\u202eä") == "ok?[2J??ä"


@pytest.mark.parametrize(
    "text",
    ["", "Lüfter 3", "Tiếng Việt", "Vie\u0323\u0302t", "風扇", "שָׁלוֹם", "🔧 50 µm ≤ ½", "'$x'"],
)
def test_printable_leaves_languages_as_they_are(text: str) -> None:
    """Machines have names everywhere, also with marks on letters."""
    assert printable(text) == text


def test_printable_makes_blanks_of_blanks() -> None:
    """A table's tab or a blank of another width is no fault, and no line end."""
    assert printable("a\tb\u00a0c\u3000d") == "a b c d"


def test_shortened_keeps_both_ends_and_counts_the_rest() -> None:
    """A message begins with the thing and ends with what to do."""
    text = f"fan.onnx: id={'x' * 3_000_000} must be short; make another"

    shown = shortened(text, 120)

    assert len(shown) <= 120
    assert shown.startswith("fan.onnx: id=xxx")
    assert shown.endswith("must be short; make another")
    kept = shown.replace(f"...{len(text) - 90} more...", "")
    assert len(kept) == 90


@given(
    st.recursive(
        st.text(max_size=300)
        | st.integers(0, 20_000).map(lambda n: 1 << n)
        | st.floats()
        | st.datetimes(),
        lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(), inner, max_size=9),
        max_leaves=30,
    )
)
def test_quoted_value_is_short(value: Any) -> None:
    """However large a wrong value is, the message about it can be read."""
    assert len(quoted(value)) <= 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        ("a\nb", r"'a\nb'"),
        ([1, "x"], "[1, 'x']"),
        (True, "True"),
        (-(10**39), "-1" + "0" * 39),
        (1 << 4_000_000, "<number of about 1204121 digits>"),
        ({"a": {"b": {"c": {"d": 1}}}}, "{'a': {'b': {'c': {...}}}}"),
    ],
    ids=["zero", "line end", "list", "boolean", "negative", "huge number", "deep"],
)
def test_quoted_value_is_as_python_writes_it(value: Any, text: str) -> None:
    """What is short stays exact; a number too long to be written is told by its length."""
    assert quoted(value) == text


def logged(formatter: logging.Formatter, message: str, *args: Any, exc: Any = None) -> list[str]:
    """The lines that a record becomes."""
    record = logging.LogRecord("edgeasd", logging.WARNING, "", 1, message, args, exc)
    return formatter.format(record).split("\n")


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_log_record_is_one_line_whatever_is_in_it(text: str) -> None:
    """No line of the log, nor of the journal, is anybody else's."""
    plain = logged(LineFormatter("%(levelname)s %(message)s"), "fan: %s", text)
    journal = logged(JournalFormatter("%(message)s"), "fan: %s", text)

    assert [line[:13] for line in plain] == ["WARNING fan: "]
    assert [line[:8] for line in journal] == ["<4>fan: "]
    for line in (*plain, *journal):
        assert is_harmless(line)
        assert len(line) <= LONGEST + 3


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_log_of_an_exception_has_no_line_that_begins_like_one_of_the_log(text: str) -> None:
    """A traceback keeps its lines, each of them cleaned and set in."""
    with pytest.raises(DocumentError) as caught:
        raise DocumentError(text)
    info = caught._excinfo

    plain = logged(LineFormatter("%(levelname)s %(message)s"), "failed", exc=info)
    journal = logged(JournalFormatter("%(message)s"), "failed", exc=info)

    assert plain[:2] == ["WARNING failed", "  Traceback (most recent call last):"]
    assert journal[:2] == ["<4>failed", "<4>  Traceback (most recent call last):"]
    for line in plain[1:]:
        assert line.startswith("  ")
    for line in journal[1:]:
        assert line.startswith("<4>  ")
    for line in (*plain, *journal):
        assert is_harmless(line)
    assert len("\n".join(plain)) < 30_000


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_payload_has_only_harmless_text(text: str) -> None:
    """Who receives an alert or a health shows it too."""
    payload = {"reason": text, "machines": [{"model": {"id": text}}], "refused": (text,), "n": 1}

    said = json.loads(encode(payload))

    shown = printable(text)
    assert said == {
        "reason": shown,
        "machines": [{"model": {"id": shown}}],
        "refused": [shown],
        "n": 1,
    }


def test_service_manager_takes_no_field_from_within_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A line end in a name would be another assignment."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)

        notify("READY=1", "STATUS=fan\nMAINPID=1")

        assert manager.recv(1_000) == b"READY=1\nSTATUS=fan?MAINPID=1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, recordings and a configuration of bad names."""
    folder = tmp_path_factory.mktemp("hostile")
    escapes = WORST["escapes"]
    document = replace(make_document(clip_windows=1), id="Z" + "\u0301" * 150)
    (folder / "marks.onnx").write_bytes(make_content(document))
    for name, wrong in (("escapes", escapes), ("huge", {"a": "b" * 1_000_000})):
        model = onnx.load(folder / "marks.onnx")
        (entry,) = model.metadata_props
        entry.value = json.dumps({**json.loads(entry.value), "id": wrong})
        onnx.save(model, folder / f"{name}.onnx")
    (folder / "fan.toml").write_text(
        'state_dir = "state"\n[mqtt]\nhost = "no-such-broker.invalid"\n'
        '[[machine]]\nname = "fan"\nmodel = "escapes.onnx"\n[machine.simulator]\n'
        '[[machine]]\nname = "saw"\nmodel = "marks.onnx"\n[machine.simulator]\n'
    )
    (folder / "evil.toml").write_text(f"{json.dumps('k' * 900_000 + escapes)} = 1\n")
    (folder / "number.toml").write_text("node = 0x" + "f" * 900_000)
    sound = 0.01 * np.random.default_rng(1).standard_normal(16_000)
    for name in ("=1+1.wav", f"\x1b[2J\n{FORGED}.wav", "--no\x1b[2J\noption"):
        soundfile.write(folder / name, sound, 16_000, format="WAV")
    return folder


EVIL_NAME = f"\x1b[2J\n{FORGED}.wav"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--config", "fan.toml"),
        ("check", "--config", "evil.toml"),
        ("check", "--config", "number.toml"),
        ("run", "--config", "evil.toml"),
        ("model", "escapes.onnx"),
        ("model", "huge.onnx"),
        ("score", "--model", "marks.onnx", EVIL_NAME),
        ("score", "--model", "marks.onnx", "--section", EVIL_NAME, "=1+1.wav"),
        ("explain", "--model", "marks.onnx", EVIL_NAME),
        ("score", "--model", "marks.onnx", "--no\x1b[2J\noption"),
        (EVIL_NAME,),
        ("watch", "--host", EVIL_NAME),
    ],
    ids=lambda arguments: repr(" ".join(arguments))[:60],
)
def test_command_prints_lines_of_its_own_only(folder: Path, arguments: tuple[str, ...]) -> None:
    """No model, file name or configuration writes a line, or steers the terminal."""
    result = edgeasd(*arguments, cwd=folder)

    for line in (result.stdout + result.stderr).split("\n"):
        assert is_harmless(line)
        assert len(line) <= LONGEST
        assert not line.startswith(FORGED)
    assert "Traceback" not in result.stderr


def test_score_as_csv_gives_a_spreadsheet_no_formula(folder: Path) -> None:
    """A name that begins like one is written as another name of the same file."""
    result = edgeasd(
        *("score", "--model", "marks.onnx", "--format", "csv", "--per", "clip", "=1+1.wav"),
        cwd=folder,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].startswith("./=1+1.wav,")


def test_terminal_that_lacks_a_letter_shows_a_question_mark(folder: Path) -> None:
    """A word in another writing ends no command."""
    result = edgeasd("check", "--config", "漢字.toml", cwd=folder, encoding="latin-1")

    assert result.returncode == os.EX_CONFIG
    assert result.stdout.startswith("FAIL configuration: ??.toml: cannot be read")


def test_bug_is_logged_with_a_cleaned_traceback(tmp_path: Path) -> None:
    """What nobody caught goes the way of all else in the log; the exit code stays Python's."""
    program = (
        "import threading, sys; import edgeasd.cli.main as cli\n"
        f"def fail(*_): raise RuntimeError({WORST['escapes']!r})\n"
        "def main(**_):\n"
        "    thread = threading.Thread(target=fail); thread.start(); thread.join(); fail()\n"
        "cli.main = main; cli.start()\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    lines = result.stderr.splitlines()
    told = "CRITICAL edgeasd.cli.main: a bug of edgeasd; report it with the lines below"
    assert result.returncode == 1
    assert [line for line in lines if not line.startswith("  ")] == [told, told]
    assert all(map(is_harmless, lines))


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
