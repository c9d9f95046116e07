"""Files that others may have left are read within bounds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeasd.bounded_file import read_bounded


def make_endless(path: Path) -> None:
    """Leave a link to a device that never ends."""
    path.symlink_to("/dev/zero")


def make_large(path: Path) -> None:
    """Leave a file of a terabyte that takes no room."""
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "not a regular file"),
        (make_endless, "not a regular file"),
        (Path.mkdir, "Is a directory"),
        (make_large, "larger than 1 MiB"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda _: None, "No such file or directory"),
    ],
    ids=["pipe", "device", "folder", "large", "loop", "missing"],
)
def test_what_is_no_file_within_bounds_is_refused(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    """It is neither waited for nor held, and the reason can be told."""
    make(tmp_path / "left")

    with pytest.raises(OSError) as caught:
        read_bounded(tmp_path / "left", 2**20)

    assert caught.value.strerror == reason


def test_file_as_large_as_it_may_be_is_read(tmp_path: Path) -> None:
    """The bound itself is within."""
    (tmp_path / "left").write_bytes(b"x" * 100)

    assert read_bounded(tmp_path / "left", 100) == b"x" * 100
