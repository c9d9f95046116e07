"""The daemon: builds everything from the configuration, then watches over it."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from edgeasd.common.clock import since_boot_s
from edgeasd.common.config.file import load_config
from edgeasd.common.config.keys import Config
from edgeasd.common.errors import ConfigError, EdgeasdError, HungDeviceError
from edgeasd.models.cache import Models
from edgeasd.service.machine.health import alive, hangs
from edgeasd.service.machine.machine import STOP_TIMEOUT_S
from edgeasd.service.machines import Machines
from edgeasd.service.node import Node
from edgeasd.service.process import signals
from edgeasd.service.process.departures import Departures
from edgeasd.service.process.state_lock import StateLock
from edgeasd.service.process.systemd import Busy, notify, notify_reloading, watchdog_interval_s
from edgeasd.service.reload import Changes, plan

_TICK_S = 0.25
"""Seconds between two looks of the supervisor, unless something wakes it before."""
_SUMMARY_INTERVAL_S = 60.0
"""Seconds between two summaries in the log."""
_FOLLOW_INTERVAL_S = 2.0
"""Seconds between two looks at the files of all machines."""
_LEAST_HEALTH_INTERVAL_S = 5.0
"""Seconds between two health messages that tell news; a shorter configured interval holds."""
_DELIVERY_TIMEOUT_S = 5.0
"""Seconds that alerts have to reach the broker after every recording has ended."""
_LEAVE_TIMEOUT_S = 10.0
"""Seconds that the last messages have to reach the broker when a device hangs."""
_CLOCK_STEP_S = 2.0
"""Seconds by which the wall clock must be set for the states to be told again."""
_log = logging.getLogger(__name__)


class Daemon:
    """The machines of this computer, the connection to the broker, and the supervision of both.

    Args:
        config: Configuration at the start.
        path: Path of the configuration file, which `reload` reads; None if there is none.

    Raises:
        EdgeasdError: If the state directory, or a file for the connection, cannot be used.
    """

    def __init__(self, config: Config, path: Path | None = None) -> None:
        self._path = path
        self._stopping = False
        self._reload_asked = False
        self._told: tuple[object, ...] = ()
        self._refused: list[str] = []
        self._models = Models()
        self._wanted: Config | None = None
        # Before anything in the directory is touched: another daemon may be at work there.
        self._lock = StateLock(config.state_dir)
        try:
            self._node = Node(config)
        except BaseException:
            self._lock.close()
            raise
        self._departures = Departures(config.state_dir / "departures.json")
        self._machines = Machines(self._node, self._models)
        self._busy = Busy()
        self._is_health_news = True
        self._health_at = -_LEAST_HEALTH_INTERVAL_S
        self._clock_offset_s = time.time() - since_boot_s()

    def run(self) -> None:
        """Listen until `stop` is called or every source has ended.

        A machine that cannot be listened to is told and tried again; the others are listened to.

        Raises:
            HungDeviceError: If a device hangs; the process must end then.
        """
        node, machines = self._node, self._machines
        node.publisher.start()
        node.clips.start()
        try:
            config = node.config
            node.forget_all_but([machine.name for machine in config.machine])
            self._models.prepare(machine.model for machine in config.machine)
            machines.apply(plan(replace(config, machine=()), config), self._tell_start)
            self._models.prepare(())
            self._notify_ready()
            self._supervise()
        finally:
            notify("STOPPING=1")
            self._tell_last()
            machines.stop()
            node.clips.stop(STOP_TIMEOUT_S)
            node.stop()
            node.outbox.close()
            self._lock.close()

    def stop(self) -> None:
        """Have `run` return soon."""
        # Plain values: a signal handler that took the lock of an event could wait for the very
        # thread that it interrupts.
        self._stopping = True

    def reload(self) -> None:
        """Have the configuration read again soon."""
        self._reload_asked = True

    def follow_signals(self) -> None:
        """Have SIGTERM and SIGINT call `stop`, and SIGHUP `reload`; for the main thread."""
        signals.follow(stop=self.stop, reload=self.reload)

    def _notify_ready(self) -> None:
        n_refused = len(self._machines.refused)
        refused = f", {n_refused} refused" if n_refused else ""
        notify("READY=1", f"STATUS=listening to {len(self._machines)} machines{refused}")

    def _go_on(self) -> bool:
        self._busy.advance()
        return not self._stopping

    def _tell_start(self) -> bool:
        # A machine that is listened to already is told before the others have begun.
        self._is_health_news |= self._tell_states()
        self._tell_health(time.monotonic())
        return self._go_on()

    def _supervise(self) -> None:
        watchdog_s = watchdog_interval_s()
        watchdog_at = 0.0
        now = time.monotonic()
        summary_at, follow_at = now + _SUMMARY_INTERVAL_S, now + _FOLLOW_INTERVAL_S
        while not self._stopping:
            self._node.changed.wait(_TICK_S)
            self._node.changed.clear()
            now = time.monotonic()
            # Asked first, so that the state after the last block is told below.
            ended = self._machines.ended and self._wanted is None
            if self._reload_asked and self._path is not None:
                self._reload_asked = False
                self._begin_reload(self._path)
                ended, self._is_health_news = False, True
            if self._wanted is not None and self._models.ready:
                self._reload(self._wanted)
                ended, self._is_health_news = False, True
            self._machines.tend()
            if now >= follow_at:
                follow_at = now + _FOLLOW_INTERVAL_S
                self._is_health_news |= self._machines.follow()
            self._node.look_after()
            self._is_health_news |= self._tell_states()
            self._tell_health(now)
            if watchdog_s is not None and now >= watchdog_at and self._progressing():
                watchdog_at = now + watchdog_s
                notify("WATCHDOG=1")
            if now >= summary_at:
                summary_at = now + _SUMMARY_INTERVAL_S
                self._follow_clock()
                self._log_summary()
            self._leave_if_a_device_hangs()
            if ended:
                self._finish()
                return

    def _begin_reload(self, path: Path) -> None:
        """Read the configuration file, and begin to load its models."""
        notify_reloading()
        self._busy = Busy()
        try:
            _require_file(path)
            self._wanted = load_config(path)
        except ConfigError as exc:
            self._end_reload([f"{line}; nothing of it is applied" for line in exc.lines])
            return
        self._models.prepare(machine.model for machine in self._wanted.machine)
        _log.info("read %s again", path)

    def _reload(self, wanted: Config) -> None:
        """Apply what is valid of a configuration, and refuse the rest."""
        now = replace(self._node.config, machine=self._machines.configs)
        self._end_reload(self._apply(plan(now, wanted)))

    def _apply(self, changes: Changes) -> list[str]:
        """Carry out *changes*, and return what is refused, in words, but for the machines."""
        node, refused, mqtt = self._node, list(changes.refused), changes.config.mqtt
        logging.getLogger().setLevel(changes.config.log_level.upper())
        if changes.reconnects:
            try:
                node.connect_as(mqtt)
            except EdgeasdError as exc:
                refused.append(str(exc))
                mqtt = node.config.mqtt
            else:
                self._machines.repeat_states()
        node.config = replace(changes.config, mqtt=mqtt)
        self._machines.apply(changes, self._go_on)
        return refused

    def _end_reload(self, refused: list[str]) -> None:
        for reason in refused:
            _log.error("not applied: %s", reason)
        self._wanted = None
        self._models.prepare(())
        self._refused = refused
        self._notify_ready()

    def _tell_states(self) -> bool:
        news = self._machines.tell_states()
        told = self._node.faults
        news |= told != self._told
        self._told = told
        return news

    def _progressing(self) -> bool:
        facts = [machine.facts() for machine in self._machines if not machine.ended]
        # While the process must stay, a device that is known to hang must not get it killed.
        watched = [one for one in facts if self._departures.may_leave or not hangs(one)]
        return alive(watched, network=self._node.publisher.is_alive)

    def _leave_if_a_device_hangs(self) -> None:
        for machine in self._machines:
            if hangs(machine.facts()) and self._departures.may_leave:
                self._departures.note()
                # Every event is on disk already.  The last messages to the broker may take a while
                # but not for ever.
                last = threading.Timer(_LEAVE_TIMEOUT_S, os._exit, (HungDeviceError.exit_code,))
                last.daemon = True
                with suppress(RuntimeError):  # no more threads may be had
                    last.start()
                raise HungDeviceError(
                    f"machine {machine.name!r}: {machine.health().reason}; leaving for a restart"
                )

    def _follow_clock(self) -> None:
        """Publish states again when the wall clock was set: they say since when they hold."""
        offset_s = time.time() - since_boot_s()
        if abs(offset_s - self._clock_offset_s) > _CLOCK_STEP_S:
            _log.info("the wall clock was set by %+.0f s", offset_s - self._clock_offset_s)
            self._clock_offset_s = offset_s
            self._machines.repeat_states()

    def _tell_last(self) -> None:
        """Tell what there was no time to tell before, or what was held back."""
        is_news = self._machines.tell_states(last=True)
        if is_news or self._is_health_news:
            self._publish_health()

    def _tell_health(self, now: float) -> None:
        """Publish the health if it is due, or sooner if there is news."""
        interval_s = self._node.config.mqtt.health_interval_s
        least_s = min(_LEAST_HEALTH_INTERVAL_S, interval_s) if self._is_health_news else interval_s
        if now - self._health_at >= least_s:
            self._health_at = now
            self._is_health_news = False
            self._publish_health()

    def _publish_health(self) -> None:
        refused = [*self._refused, *self._machines.refused]
        self._node.publish_health(self._machines.health(), refused)

    def _log_summary(self) -> None:
        n_queued = len(self._node.outbox)
        for health in self._machines.health():
            _log.info(
                "%s: %s blocks=%d gaps=%d overruns=%d windows=%d real_time_factor=%.3f "
                "level_dbfs=%.1f queued_alerts=%d",
                health.name,
                health.state,
                health.blocks,
                health.gaps,
                health.overruns,
                health.windows,
                health.real_time_factor,
                health.level_dbfs,
                n_queued,
            )

    def _finish(self) -> None:
        """Give the alerts of recordings that have ended time to reach the broker."""
        _log.info("every source has ended")
        self._log_summary()
        deadline = time.monotonic() + _DELIVERY_TIMEOUT_S
        node = self._node
        while (len(node.outbox) or not node.publisher.connected) and time.monotonic() < deadline:
            if self._stopping:
                return
            time.sleep(_TICK_S / 5)


def _require_file(path: Path) -> None:
    # To read a pipe may take for ever, and all machines would wait.
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: is not a file; name one")
