"""How many threads and processes the daemon may have, by the limit of the service manager."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeasd.common.config.keys import Config, MicrophoneConfig

SPARE_TASKS = 16
"""Threads and processes that machines leave free: for devices that come back, for child processes,
and for a clean stop."""
_CGROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, order=True)
class TasksLeft:
    """What a limit on threads and processes leaves.

    Attributes:
        n_free: Threads and processes that may still be started.
        most: Threads and processes that there may be in all.
    """

    n_free: int
    most: int


def most_tasks(config: Config) -> int:
    """Return how many threads and processes the machines of *config* need, spare ones included."""
    sources = [machine.source for machine in config.machine]
    devices = {source.device for source in sources if isinstance(source, MicrophoneConfig)}
    return len(sources) + len(devices) + SPARE_TASKS


def tasks_left() -> TasksLeft | None:
    """Return how many more threads and processes may be started; None without a limit.

    References:
        cgroups(7) and the kernel's pids controller: the limits of all groups above hold as well.
    """
    limits = [limit for group in _groups() if (limit := _limit(group)) is not None]
    return min(limits, default=None)


def _groups() -> Iterator[Path]:
    """Yield the control groups of this process that may have a limit, and those above them."""
    try:
        lines = _CGROUPS.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "pids" not in controllers.split(","):
            continue
        top = _ROOT / "pids" if controllers else _ROOT
        group = top / name.lstrip("/")
        yield from (group, *(above for above in group.parents if above.is_relative_to(top)))


def _limit(group: Path) -> TasksLeft | None:
    try:
        most = (group / "pids.max").read_text().strip()
        taken = int((group / "pids.current").read_text())
    except (OSError, ValueError):  # no group of that kind, or the topmost one
        return None
    return TasksLeft(int(most) - taken, int(most)) if most.isdigit() else None
