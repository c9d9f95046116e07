"""How many threads and processes the control groups leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeasd.common.config.keys import (
    Config,
    MachineConfig,
    MicrophoneConfig,
    SimulatorConfig,
    SourceConfig,
)
from edgeasd.service.process import tasks
from edgeasd.service.process.tasks import SPARE_TASKS, TasksLeft, most_tasks, tasks_left


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the control groups are."""
    monkeypatch.setattr(tasks, "_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(tasks, "_CGROUPS", tmp_path / "self")
    return tmp_path / "cgroup"


def limit(group: Path, most: str, taken: str) -> None:
    """Make a group with a limit."""
    group.mkdir(parents=True, exist_ok=True)
    (group / "pids.max").write_text(f"{most}\n")
    (group / "pids.current").write_text(f"{taken}\n")


@pytest.mark.parametrize(
    ("line", "top"), [("0::/system.slice/edgeasd.service", ""), ("8:pids:/system.slice/e", "pids")]
)
def test_tasks_left_is_what_the_tightest_group_leaves(root: Path, line: str, top: str) -> None:
    """Of the group itself and those above it, under either version of control groups."""
    (root.parent / "self").write_text(f"9:name=systemd:/other\n{line}\n")
    name = line.rpartition(":")[2].lstrip("/")
    limit(root / top / name, "128", "28")
    limit(root / top / name / "..", "300", "290")

    assert tasks_left() == TasksLeft(10, 300)
    limit(root / top / name / "..", "max", "290")
    assert tasks_left() == TasksLeft(100, 128)


@pytest.mark.parametrize("groups", [None, "", "0::/gone\n", "0::/\n"])
def test_tasks_left_without_a_limit_is_none(root: Path, groups: str | None) -> None:
    """Also where there are no control groups at all."""
    if groups is not None:
        (root.parent / "self").write_text(groups)

    assert tasks_left() is None


def test_most_tasks_counts_machines_and_devices(tmp_path: Path) -> None:
    """Machines of one device share the thread that reads it."""
    sources: list[SourceConfig] = [MicrophoneConfig("a"), MicrophoneConfig("a", 1)]
    sources += [SimulatorConfig()]
    machines = (MachineConfig(f"m{n}", tmp_path, "", one) for n, one in enumerate(sources))

    assert most_tasks(Config(tuple(machines))) == 3 + 1 + SPARE_TASKS
