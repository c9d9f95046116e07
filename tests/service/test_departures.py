"""How often the process is left because of a device that hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeasd.common.clock import Moment
from edgeasd.service.process import departures
from edgeasd.service.process.departures import Departures


def leave_by(
    path: Path, monkeypatch: pytest.MonkeyPatch, hours: float, start_s: float
) -> list[int]:
    """Return when a process is left, in minutes, that is begun again and finds the device hung."""
    left = []
    now_s = start_s
    while now_s < start_s + hours * 3600.0:
        monkeypatch.setattr(departures, "moment", lambda: Moment("boot", now_s))  # noqa: B023
        current = Departures(path)
        if current.may_leave:
            current.note()
            left.append(round((now_s - start_s) / 60.0))
        now_s += 30.0
    return left


def test_device_that_hangs_for_ever_costs_the_others_an_interruption_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time the process is left at once, then ever more seldom, over all restarts."""
    left = leave_by(tmp_path / "departures.json", monkeypatch, 5.0, 0.0)

    assert left == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


def test_device_that_hangs_again_after_long_is_left_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day that went well makes it the first time again."""
    leave_by(tmp_path / "departures.json", monkeypatch, 5.0, 0.0)

    assert leave_by(tmp_path / "departures.json", monkeypatch, 0.1, 86_400.0) == [0, 1, 3]


def test_device_that_hangs_after_a_boot_is_left_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was before it says nothing: the computer may be another one."""
    Departures(tmp_path / "departures.json").note()
    assert not Departures(tmp_path / "departures.json").may_leave

    monkeypatch.setattr(departures, "moment", lambda: Moment("other", 1.0))

    assert Departures(tmp_path / "departures.json").may_leave


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"last": 1, "wait_s": 2}', b"\xff"])
def test_departures_that_cannot_be_read_keep_nothing_back(tmp_path: Path, content: bytes) -> None:
    """A damaged file is one that is not there."""
    (tmp_path / "departures.json").write_bytes(content)

    assert Departures(tmp_path / "departures.json").may_leave
