"""The verdicts on disk and service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeasd.checks.host import check_service, check_state_directory, unit_properties
from edgeasd.checks.verdict import Finding
from edgeasd.errors import EdgeasdError, StorageError
from edgeasd.publish.outbox import Outbox
from tests.disks import mounted_tmpfs

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
    finding = check_state_directory(tmp_path)

    assert not finding.doubtful
    assert finding.text.startswith(f"{tmp_path}, ")
    assert list(tmp_path.iterdir()) == []


def test_state_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """The service makes it, with the right owner."""
    finding = check_state_directory(tmp_path / "a" / "b")

    assert finding.text.endswith("made when the daemon starts")
    assert list(tmp_path.iterdir()) == []


def test_state_directory_tells_how_many_alerts_wait(tmp_path: Path) -> None:
    """What could not be delivered yet is counted."""
    outbox = Outbox(tmp_path / "outbox.sqlite3")
    outbox.put("1", "topic", b"payload")
    outbox.close()

    assert check_state_directory(tmp_path).text.endswith("1 alerts not yet delivered")


def test_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The message names what stands in the way."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="is no directory"):
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
        ({"LoadState": "not-found"}, "not installed; see README.md, Monitor a machine"),
        ({"ActiveState": "inactive"}, "inactive; sudo systemctl start edgeasd.service"),
        (
            {"UnitFileState": "disabled"},
            "active, but not started at boot; sudo systemctl enable edgeasd.service",
        ),
        (
            {"NRestarts": "7"},
            "active, but restarted 7 times; journalctl -u edgeasd.service says why",
        ),
    ],
)
def test_service_that_works_or_is_not_wanted_is_no_failure(
    changed: dict[str, str], text: str
) -> None:
    """What is not as it should be is a warning with its remedy."""
    assert check_service({**GOOD, **changed}) == Finding(text, doubtful=bool(changed))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"ActiveState": "failed", "Result": "exit-code"},
            "fails (exit-code); journalctl -u edgeasd.service -n 20 says why",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "watchdog"},
            "fails (watchdog); journalctl -u edgeasd.service -n 20 says why",
        ),
        ({"LoadState": "bad-setting"}, "unit bad-setting; systemctl status edgeasd.service"),
    ],
)
def test_service_that_fails_is_a_failure(changed: dict[str, str], text: str) -> None:
    """A service that ended, or is started again and again, is told with the way to its log."""
    with pytest.raises(EdgeasdError) as caught:
        check_service({**GOOD, **changed})

    assert str(caught.value).startswith(text)


def test_service_on_this_computer_has_a_finding() -> None:
    """Whatever runs this computer, what systemd says of it, or its absence, can be judged."""
    unit = unit_properties()

    if unit:
        assert unit.keys() == GOOD.keys()
    else:
        assert check_service(unit).text.startswith("systemd does not run here")


@pytest.mark.parametrize(
    ("most", "is_doubtful"), [("128", True), ("300", False), ("infinity", False), ("", False)]
)
def test_service_that_may_have_too_few_tasks_is_told(most: str, *, is_doubtful: bool) -> None:
    """The limit is compared with what the configured machines need."""
    finding = check_service({**GOOD, "TasksMax": most}, 300)

    assert finding.doubtful == is_doubtful
    assert ("TasksMax=128 must be at least 300" in finding.text) == is_doubtful
