"""All machines of the daemon: those that are listened to, and those that cannot be yet.

No error of one machine, and no mistake in its configuration, ever ends another: it ends the
listening to that machine, which is told and begun anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from edgeasd.common.backoff import BackOff
from edgeasd.common.config.keys import FileConfig, MachineConfig
from edgeasd.common.errors import EdgeasdError
from edgeasd.detect.model.network import Model
from edgeasd.models.cache import FileWatch, Models
from edgeasd.models.calibration_file import files_of
from edgeasd.publish.payloads.health import MachineHealth
from edgeasd.service.machine.machine import STOP_TIMEOUT_S, Machine
from edgeasd.service.machine.reporter import Condition, Reporter
from edgeasd.service.machine.stopping import stop_all
from edgeasd.service.node import Node
from edgeasd.service.process.tasks import SPARE_TASKS, tasks_left
from edgeasd.service.reload import Changes

_FIRST_RETRY_S, _LONGEST_RETRY_S = 60.0, 3600.0
"""Seconds between two attempts to use a refused machine whose files stay as they are."""
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class _Refusal:
    """A configuration of a machine that cannot be used now, but may be later.

    Args:
        config: Configuration that is wanted.

    Attributes:
        config: Configuration that is wanted.
        reason: Why it cannot be used, in words; empty before the first attempt.
    """

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        self.reason = ""
        # Looked at before they are read: a change in between then counts as a change.
        self._watch = FileWatch(_files_of(config))
        self._loading: Future[Model] | None = None
        self._back_off = BackOff(_FIRST_RETRY_S, _LONGEST_RETRY_S)

    def fail(self, reason: str) -> None:
        """Take note that it cannot be used."""
        if reason != self.reason:
            _log.error("not applied: machine %r: %s", self.config.name, reason)
        self.reason = reason
        self._loading = None
        self._back_off.fail(time.monotonic())

    def is_due(self, models: Models) -> bool:
        """Return whether to try again: its files have changed, or the last attempt was long ago.

        A model that has to be tried first is not waited for: it is due when that is done.
        """
        if self._loading is None and (
            self._watch.changed() or self._back_off.is_due(time.monotonic())
        ):
            self._loading = models.begin(self.config.model)
        return self._loading is not None and self._loading.done()


class Machines:
    """Goes over from one configuration of machines to another, and watches over those there are.

    Iterating gives the machines that are listened to.

    Args:
        node: What all machines share.
        models: Model files in use.
    """

    def __init__(self, node: Node, models: Models) -> None:
        self._node = node
        self._models = models
        self._running: dict[str, Machine] = {}
        self._refused: dict[str, _Refusal] = {}
        self._reporters: dict[str, Reporter] = {}

    def __iter__(self) -> Iterator[Machine]:
        return iter(self._running.values())

    def __len__(self) -> int:
        return len(self._running)

    @property
    def configs(self) -> tuple[MachineConfig, ...]:
        """Configuration of each machine: the one in force, or the one that is refused."""
        refused = {name: refusal.config for name, refusal in self._refused.items()}
        running = {name: machine.config for name, machine in self._running.items()}
        return tuple((refused | running).values())

    @property
    def refused(self) -> list[str]:
        """Machines that cannot be used now, and why, in words; they are tried again."""
        return [f"machine {name!r}: {one.reason}" for name, one in self._refused.items()]

    @property
    def ended(self) -> bool:
        """Whether there is no more to come, and nothing is waited for."""
        all_ended = len(self) > 0 and all(machine.ended for machine in self)
        return all_ended and not self._refused

    def apply(self, changes: Changes, go_on: Callable[[], bool]) -> None:
        """Go over to the machines of another configuration; what cannot be used is told.

        Args:
            changes: What has to be done.
            go_on: Asked after each machine whether to go on with the next one.
        """
        self._refused.clear()
        gone = [self._running.pop(name) for name in changes.removed if name in self._running]
        # All let go of their devices first, as others may want them, and all at once.
        moving = [self._running[name] for name in changes.moved if name in self._running]
        stop_all([*gone, *moving], STOP_TIMEOUT_S)
        for name in changes.removed:
            self._node.forget(name)
            self._reporters.pop(name, None)
            _log.info("%s: no longer listened to", name)
        self._node.remember([config.name for config in changes.config.machine])
        for config in changes.config.machine:
            self._apply(_Refusal(config))
            if not go_on():
                return

    def follow(self) -> bool:
        """Follow changes of files and sound; return whether there is news to tell."""
        before = self.refused
        for refusal in [one for one in self._refused.values() if one.is_due(self._models)]:
            self._apply(refusal)
        followed = list(self._each(Machine.follow))
        return any(followed) or self.refused != before

    def tend(self) -> None:
        """Begin anew to listen where an error ended it, when it is time."""
        list(self._each(Machine.tend))

    def tell_states(self, *, last: bool = False) -> bool:
        """Publish the states that are news; return whether there were any."""
        told = list(self._each(lambda machine: machine.tell_state(last=last)))
        for name, refusal in self._refused.items():
            if name not in self._running:
                condition = Condition("stale", refusal.reason)
                told.append(self._reporter(name).tell(condition, None, last=last))
        return any(told)

    def repeat_states(self) -> None:
        """Have all states published again, news or not."""
        for name in {*self._running, *self._refused}:
            self._reporter(name).repeat()

    def health(self) -> list[MachineHealth]:
        """Return the health of each machine that is listened to."""
        return list(self._each(Machine.health))

    def stop(self) -> None:
        """Stop all at once; those that hang are left to the end of the process."""
        stop_all(list(self), STOP_TIMEOUT_S)

    def _reporter(self, name: str) -> Reporter:
        """Return the reporter of a machine, the same one whether it is refused or listened to."""
        if name not in self._reporters:
            self._reporters[name] = Reporter(self._node, name)
        return self._reporters[name]

    def _each(self, work: Callable[[Machine], _T]) -> Iterator[_T]:
        """Yield the result of *work* for each machine; an error ends listening to that machine."""
        for machine in list(self._running.values()):
            try:
                yield work(machine)
            except Exception as exc:  # noqa: BLE001, PERF203 - no machine ends the others
                machine.fail(exc)

    def _apply(self, refusal: _Refusal) -> None:
        """Try to use a configuration that was refused, or not tried yet; or note why it is not."""
        config = refusal.config
        self._refused[config.name] = refusal
        machine = self._running.get(config.name)
        try:
            if machine is None:
                self._begin(config)
            elif machine.config != config:
                machine.change(config)
        except EdgeasdError as exc:
            refusal.fail(str(exc))
        except Exception as exc:  # noqa: BLE001 - as above
            _log.error("%s: it cannot be listened to", config.name, exc_info=exc)
            refusal.fail(f"internal error ({type(exc).__name__}: {exc!s:.200}); see the log")
            if machine is not None:
                machine.fail(exc)
        else:
            del self._refused[config.name]
            if refusal.reason:
                _log.info("%s: is used now", config.name)

    def _begin(self, config: MachineConfig) -> None:
        _require_tasks()
        machine = Machine(config, self._node, self._models, self._reporter(config.name))
        try:
            machine.start()
        except BaseException:
            machine.stop(0.0)
            raise
        self._running[config.name] = machine


def _files_of(config: MachineConfig) -> tuple[Path, ...]:
    """Return the files on which it depends whether a machine can be listened to."""
    source = config.source
    return (*files_of(config), *((source.path,) if isinstance(source, FileConfig) else ()))


def _require_tasks() -> None:
    """Check that there may be threads for one more machine.

    Raises:
        EdgeasdError: If the service manager's limit leaves none.
    """
    left = tasks_left()
    if left is not None and left.n_free <= SPARE_TASKS:
        raise EdgeasdError(
            f"no more machines can be listened to with at most {left.most} threads and processes; "
            "raise TasksMax= of the service: sudo systemctl edit edgeasd"
        )
