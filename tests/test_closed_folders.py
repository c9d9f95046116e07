"""Folders that this user may not read or write: told in one line, and before the work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.errors import AudioFileError, EdgeasdError, StorageError
from edgeasd.common.files.whole_file import replace_file, require_writable
from edgeasd.offline.explain.run import find_event
from edgeasd.offline.recordings.folder import Place, RecordingFolder
from edgeasd.offline.recordings.recordings import find_recordings

NOBODY = 65_534
TEXT = """
node = "n1"
[clips]
directory = "closed"
[[machine]]
name = "fan"
model = "fan.onnx"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a recording, in which another is closed to all but root."""
    # Not pytest's own, which is closed to everybody but root itself.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for path in (folder / "open.wav", folder / "closed" / "in" / "sound.wav"):
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.zeros(16_000), 16_000)
        (folder / "edgeasd.toml").write_text(TEXT)
        (folder / "closed").chmod(0)
        yield folder
        (folder / "closed").chmod(0o755)


def refusal(use: Callable[[], object]) -> EdgeasdError:
    """Return what *use* raises where this user is not root."""
    # Root first: what is imported by the way need not be open to others.
    with suppress(EdgeasdError):
        use()
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(EdgeasdError) as caught:
            use()
    finally:
        if is_root:
            os.seteuid(0)
    return caught.value


CLOSED: list[tuple[Callable[[Path], object], type[EdgeasdError], str]] = [
    (lambda closed: find_recordings([closed]), AudioFileError, "cannot be read"),
    (lambda closed: find_recordings([closed / "in"]), AudioFileError, "cannot be read"),
    (lambda closed: find_recordings([closed.parent]), AudioFileError, "cannot be read"),
    (
        lambda closed: RecordingFolder(Place(closed / "fan", "00", "source")),
        StorageError,
        "must be a folder that this user can read",
    ),
    (lambda closed: replace_file(closed / "m.onnx", b""), StorageError, "cannot be written"),
    (lambda closed: require_writable(closed / "m.onnx"), StorageError, "cannot be written"),
]


@pytest.mark.parametrize(("use", "error", "message"), CLOSED)
def test_closed_folder_is_told_and_not_passed_over(
    folder: Path, use: Callable[[Path], object], error: type[EdgeasdError], message: str
) -> None:
    """Neither is there a traceback, nor is sound missed without a word."""
    said = refusal(lambda: use(folder / "closed"))

    assert type(said) is error
    assert f"{message} (Permission denied)" in str(said)


def test_folder_that_can_only_be_listed_is_told(folder: Path) -> None:
    """Its files are seen by name only: whether they are files, the kernel does not tell."""
    soundfile.write(folder / "closed" / "sound.wav", np.zeros(16_000), 16_000)
    (folder / "closed").chmod(0o744)

    said = refusal(lambda: find_recordings([folder]))

    assert str(said).startswith(f"{folder}/closed/sound.wav: cannot be read (Permission denied);")


def test_explain_of_an_event_says_that_the_clips_are_closed(folder: Path) -> None:
    """They are for the daemon's user alone: "no clip" would send who looks for one astray."""
    said = refusal(lambda: find_event(folder / "edgeasd.toml", "n1-0123abcd-000001"))

    assert str(said).startswith(f"{folder}/closed: cannot be read (Permission denied); run")


def test_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    """A model cannot be written into a recording."""
    (tmp_path / "a.wav").touch()

    with pytest.raises(StorageError, match=r"cannot be written \(Not a directory\)"):
        replace_file(tmp_path / "a.wav" / "m.onnx", b"")


def test_recordings_of_a_folder_leave_out_what_is_hidden(tmp_path: Path) -> None:
    """A memory stick that was in a Mac has a hidden file beside each recording."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    (tmp_path / "._a.wav").write_bytes(b"\0\5\26\7")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "b.wav").touch()

    (recording,) = find_recordings([tmp_path])

    assert recording.paths == ((tmp_path / "a.wav").resolve(),)
