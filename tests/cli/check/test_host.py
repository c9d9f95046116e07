"""The reports on disk and service."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeasd.cli.check.host import check_service, check_state_directory, unit_properties
from edgeasd.cli.check.report import CheckResult
from edgeasd.common.errors import EdgeasdError, StorageError
from edgeasd.publish.outbox.outbox import Outbox
from tests.disks import mounted_tmpfs

NOBODY = 65_534
GOOD = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "NRestarts": "0",
}


def test_state_directory_is_left_as_it_was(tmp_path: Path) -> None:
    """No file is made in it: root's could not be written by the daemon."""
    result = check_state_directory(tmp_path)

    assert not result.doubtful
    assert result.text.startswith(f"{tmp_path}, ")
    assert list(tmp_path.iterdir()) == []


def test_state_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """The service makes it, with the right owner."""
    result = check_state_directory(tmp_path / "a" / "b")

    assert result.text.endswith("created when the daemon starts")
    assert list(tmp_path.iterdir()) == []


def test_state_directory_tells_how_many_alerts_wait(tmp_path: Path) -> None:
    """What could not be delivered yet is counted."""
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    outbox.put("1", "topic", b"payload")
    outbox.close()

    assert check_state_directory(tmp_path).text.endswith("1 alerts not yet delivered")


def test_alerts_of_a_running_daemon_are_counted_without_disturbing_it(tmp_path: Path) -> None:
    """They are in SQLite's log and not in the database yet; neither is touched, nor locked."""
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    outbox.put("1", "topic", b"payload")
    before = seen(tmp_path)

    assert check_state_directory(tmp_path).text.endswith("1 alerts not yet delivered")

    assert seen(tmp_path) == before
    assert "outbox.sqlite3-wal" in before
    outbox.put("2", "topic", b"payload")
    assert check_state_directory(tmp_path).text.endswith("2 alerts not yet delivered")
    outbox.close()


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return all that can be told of the files in *folder*, but when they were read."""
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.iterdir():
        status = path.lstat()
        content = b""
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                content = file.read(100_000)
        found[path.name] = (status.st_mode, status.st_uid, status.st_mtime_ns, content)
    return found


def damage(path: Path) -> None:
    """Have an outbox at *path*, and overwrite a part of it."""
    outbox = Outbox(path)
    outbox.put("1", "topic", b"payload")
    outbox.close()
    content = bytearray(path.read_bytes())
    content[100:400] = b"\xff" * 300
    path.write_bytes(content)


def grow(path: Path) -> None:
    """Have a file of a terabyte at *path*, without a byte in it."""
    with path.open("wb") as file:
        file.truncate(2**40)


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "damaged": (damage, "cannot be read (database disk image is malformed); restart the daemon"),
    "no database": (lambda path: path.write_text("of the user"), "cannot be read ("),
    "link": (lambda path: path.symlink_to("/etc/hostname"), "is not a plain file"),
    "hard link": (lambda path: path.hardlink_to(path.with_name("other")), "is not a plain file"),
    "pipe": (os.mkfifo, "is not a plain file"),
    "folder": (Path.mkdir, "is not a plain file"),
    "a terabyte": (grow, "is larger than 128 MB"),
}
HARMLESS_LOGS = ("damaged", "no database")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("outbox.sqlite3", kind) for kind in PLANTED),
        # What is no log of SQLite's is none for SQLite, and does no harm.
        *(("outbox.sqlite3-wal", kind) for kind in PLANTED if kind not in HARMLESS_LOGS),
    ],
)
def test_outbox_that_is_none_is_told_and_left_as_it_is(
    tmp_path: Path, name: str, kind: str
) -> None:
    """Who checks only looks: nothing is mended, followed, waited for, or held in memory."""
    plant, message = PLANTED[kind]
    (tmp_path / "other").touch()
    if name.endswith("-wal"):
        outbox = Outbox(tmp_path / "outbox.sqlite3")
        outbox.put("1", "topic", b"payload")
        outbox.close()
    plant(tmp_path / name)
    before = seen(tmp_path)

    with pytest.raises(StorageError) as caught:
        check_state_directory(tmp_path)

    assert str(caught.value).startswith(f"{tmp_path}/outbox.sqlite3: ")
    assert message in str(caught.value)
    assert seen(tmp_path) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have others own something")
def test_root_is_told_what_the_owner_of_the_directory_cannot_write(tmp_path: Path) -> None:
    """Root can write everything; the daemon is another user."""
    (tmp_path / "outbox.sqlite3").touch()
    os.chown(tmp_path, NOBODY, NOBODY)

    with pytest.raises(StorageError, match=r"'outbox.sqlite3' in it belongs to another user"):
        check_state_directory(tmp_path)

    os.chown(tmp_path / "outbox.sqlite3", NOBODY, NOBODY)
    assert check_state_directory(tmp_path).text.endswith("0 alerts not yet delivered")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=f"is closed to its owner; sudo chmod u.rwx {tmp_path}"):
        check_state_directory(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have others own something")
def test_state_directory_through_a_link_of_another_user_is_refused_to_root(tmp_path: Path) -> None:
    """Root would write to where the link leads."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to("elsewhere")
    os.chown(tmp_path / "state", NOBODY, NOBODY, follow_symlinks=False)

    with pytest.raises(StorageError, match="state is a symbolic link that does not belong to root"):
        check_state_directory(tmp_path / "state")


def test_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The message names what stands in the way."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="is not a directory"):
        check_state_directory(tmp_path / "file")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk without a byte free."""
    with mounted_tmpfs(tmp_path / "disk", "64k") as disk:
        disk.fill()
        yield disk.root


def test_state_directory_on_a_full_disk_is_refused(full_disk: Path) -> None:
    """It is found out by writing."""
    with pytest.raises(StorageError) as caught:
        check_state_directory(full_disk)

    assert "(No space left on device)" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, "active, and started at boot"),
        ({"LoadState": "not-found"}, "not installed; docs/install.md says how to install it"),
        ({"ActiveState": "inactive"}, "inactive; run: sudo systemctl start edgeasd.service"),
        (
            {"UnitFileState": "disabled"},
            "active, but not started at boot; run: sudo systemctl enable edgeasd.service",
        ),
        (
            {"NRestarts": "7"},
            "active, but was restarted 7 times; for the reason run: journalctl -u edgeasd.service",
        ),
    ],
)
def test_service_that_works_or_is_not_wanted_is_no_failure(
    changed: dict[str, str], text: str
) -> None:
    """What is not as it should be is a warning with its remedy."""
    assert check_service({**GOOD, **changed}) == CheckResult(text, doubtful=bool(changed))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"ActiveState": "failed", "Result": "exit-code"},
            "fails (exit-code); for the reason run: journalctl -u edgeasd.service -n 20",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "watchdog"},
            "fails (watchdog); for the reason run: journalctl -u edgeasd.service -n 20",
        ),
        (
            {"LoadState": "bad-setting"},
            "unit bad-setting; for details run: systemctl status edgeasd.service",
        ),
    ],
)
def test_service_that_fails_is_a_failure(changed: dict[str, str], text: str) -> None:
    """A service that ended, or is started again and again, is told with the way to its log."""
    with pytest.raises(EdgeasdError) as caught:
        check_service({**GOOD, **changed})

    assert str(caught.value).startswith(text)


def test_service_on_this_computer_has_a_result() -> None:
    """Whatever runs this computer, what systemd says of it, or its absence, can be judged."""
    unit = unit_properties()

    if unit:
        assert unit.keys() == GOOD.keys()
    else:
        assert check_service(unit).text.startswith("no systemd here")


@pytest.mark.parametrize(
    ("most", "is_doubtful"), [("128", True), ("300", False), ("infinity", False), ("", False)]
)
def test_service_that_may_have_too_few_tasks_is_told(most: str, *, is_doubtful: bool) -> None:
    """The limit is compared with what the configured machines need."""
    result = check_service({**GOOD, "TasksMax": most}, 300)

    assert result.doubtful == is_doubtful
    assert ("TasksMax=128 must be at least 300" in result.text) == is_doubtful
