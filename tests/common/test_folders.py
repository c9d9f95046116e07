"""Paths on which other users have left something; as root, for whom alone it matters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeasd.common.files.folders import InTheWayError, open_plain, opened_folder

NOBODY = 65_534


def link(path: Path, target: Path | str, owner: int) -> None:
    """Make a symbolic link that belongs to *owner*."""
    path.symlink_to(target)
    if os.geteuid() == 0:
        os.chown(path, owner, owner, follow_symlinks=False)
    elif owner != os.geteuid():
        pytest.skip("only root can have others own something")


def found(path: Path, *, make: bool = False) -> Path:
    """Return the folder that is opened."""
    with opened_folder(path, make=make) as folder:
        return Path(f"/proc/self/fd/{folder}").readlink()


def test_folder_through_links_of_root_is_where_they_lead(tmp_path: Path) -> None:
    """As the kernel resolves it, whether they are absolute, relative, or lead upwards."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    link(tmp_path / "relative", "a", os.geteuid())
    link(tmp_path / "a" / "up", "../a/b", os.geteuid())
    link(tmp_path / "absolute", tmp_path / "relative" / "up", os.geteuid())

    assert found(tmp_path / "absolute" / ".." / "b") == (tmp_path / "a" / "b").resolve()


@pytest.mark.parametrize("make", [False, True])
@pytest.mark.parametrize("end", ["", "in", "in/in"])
def test_folder_through_a_link_of_another_user_is_refused_to_root(
    tmp_path: Path, end: str, make: bool
) -> None:
    """Wherever in the path it is, and also where folders would be made beyond it."""
    (tmp_path / "elsewhere").mkdir()
    link(tmp_path / "planted", "elsewhere", NOBODY)

    with pytest.raises(
        InTheWayError, match="planted is a symbolic link that does not belong to root"
    ):
        found(tmp_path / "planted" / end, make=make)

    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_folder_is_made_with_those_that_it_is_in(tmp_path: Path) -> None:
    """As ``mkdir --parents``; where it is there already, that is fine."""
    assert found(tmp_path / "a" / "b", make=True) == found(tmp_path / "a" / "b", make=True)
    with pytest.raises(FileNotFoundError):
        found(tmp_path / "c")


def test_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """A file, a link that leads to itself, or nothing."""
    (tmp_path / "file").touch()
    link(tmp_path / "loop", "loop", os.geteuid())

    with pytest.raises(NotADirectoryError):
        found(tmp_path / "file")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        found(tmp_path / "loop")


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder", "dangling link"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND])
def test_file_that_leads_elsewhere_is_not_opened(tmp_path: Path, kind: str, flags: int) -> None:
    """Neither is another file read or written through it, nor anything waited for."""
    (tmp_path / "other").write_text("of root")
    path = tmp_path / "file"
    if kind == "hard link":
        path.hardlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("other" if kind == "link" else "nowhere")

    with opened_folder(tmp_path) as folder, pytest.raises(InTheWayError, match="not a plain file"):
        open_plain("file", flags, folder=folder)

    assert (tmp_path / "other").read_text() == "of root"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "other"]


def test_file_that_is_plain_is_opened(tmp_path: Path) -> None:
    """It is what was there, or a new one with the mode that was asked for."""
    (tmp_path / "old").write_text("old")

    with opened_folder(tmp_path) as folder:
        old = open_plain("old", os.O_RDONLY, folder=folder)
        new = open_plain("new", os.O_RDWR | os.O_CREAT, 0o600, folder=folder)

    assert os.read(old, 10) == b"old"
    assert os.fstat(new).st_mode & 0o777 == 0o600
    os.close(old)
    os.close(new)
