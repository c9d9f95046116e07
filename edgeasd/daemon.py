"""The daemon: builds everything from the configuration, then watches over it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from edgeasd import __version__
from edgeasd.config import Config, MachineConfig, load_config
from edgeasd.errors import ConfigError, EdgeasdError, HungDeviceError
from edgeasd.health import alive, hangs
from edgeasd.machine import Machine, Models
from edgeasd.publish.payloads import MqttHealth, encode, health_payload
from edgeasd.systemd import notify, notify_reloading, watchdog_interval_s
from edgeasd.voice import Node

_TICK_S = 0.25
_SUMMARY_INTERVAL_S = 60.0
_FOLLOW_INTERVAL_S = 2.0
_STOP_TIMEOUT_S = 3.0
_DELIVERY_TIMEOUT_S = 5.0
_LEAVE_TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


class Daemon:
    """All machines of this computer, their way to the broker, and the supervision of both.

    Args:
        config: The configuration.
        path: Of its file, which `reload` reads; None if it comes from none.

    Raises:
        EdgeasdError: If a model, a source or the state directory cannot be used.
    """

    def __init__(self, config: Config, path: Path | None = None) -> None:
        self._path = path
        self._config = config
        self._stopping = False
        self._reload_asked = False
        self._started_at = time.monotonic()
        self._told: tuple[object, ...] = ()
        self._refused: list[str] = []
        self._models = Models()
        self._node = Node(config)
        self._machines: dict[str, Machine] = {}
        try:
            for machine in config.machine:
                self._machines[machine.name] = self._make(machine)
        except EdgeasdError:
            self._stop_machines()
            self._node.outbox.close()
            raise

    def run(self) -> None:
        """Listen until `stop` is called or every source has ended.

        Raises:
            HungDeviceError: If a device hangs; the process must end then.
            Exception: What ended a monitor that was not asked to end.
        """
        self._node.publisher.start()
        self._node.clips.start()
        self._node.forget_all_but(self._machines)
        for machine in self._machines.values():
            machine.monitor.start()
        self._notify_ready()
        try:
            self._supervise()
        finally:
            notify("STOPPING=1")
            self._stop_machines()
            self._node.clips.stop(_STOP_TIMEOUT_S)
            self._node.publisher.stop()
            self._node.outbox.close()
        for machine in self._machines.values():
            if machine.monitor.error is not None:
                raise machine.monitor.error

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
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, lambda *_: self.reload())

    def _make(self, config: MachineConfig) -> Machine:
        return Machine(config, self._node, self._models, self._config)

    def _notify_ready(self) -> None:
        notify("READY=1", f"STATUS=listening to {len(self._machines)} machines")

    def _supervise(self) -> None:
        watchdog_s = watchdog_interval_s()
        watchdog_at = health_at = 0.0
        now = time.monotonic()
        summary_at, follow_at = now + _SUMMARY_INTERVAL_S, now + _FOLLOW_INTERVAL_S
        while not self._stopping:
            self._node.changed.wait(_TICK_S)
            self._node.changed.clear()
            now = time.monotonic()
            # Asked first: what the last block brought is then told below.
            ended = not any(machine.monitor.running for machine in self._machines.values())
            news = False
            if self._reload_asked and self._path is not None:
                self._reload_asked = False
                self._reload(self._path)
                ended, news = False, True
            if now >= follow_at:
                follow_at = now + _FOLLOW_INTERVAL_S
                followed = [machine.follow_files() for machine in self._machines.values()]
                news |= any(followed)
            news |= self._tell_states()
            if news or now >= health_at:
                health_at = now + self._config.mqtt.health_interval_s
                self._tell_health()
            if watchdog_s is not None and now >= watchdog_at and self._progressing():
                watchdog_at = now + watchdog_s
                notify("WATCHDOG=1")
            if now >= summary_at:
                summary_at = now + _SUMMARY_INTERVAL_S
                self._log_summary()
            self._leave_if_a_device_hangs()
            if any(machine.monitor.error is not None for machine in self._machines.values()):
                return
            if ended:
                self._finish()
                return

    def _reload(self, path: Path) -> None:
        """Apply what is valid of the configuration file, and refuse the rest."""
        notify_reloading()
        self._refused = []
        try:
            config = load_config(path)
        except ConfigError as exc:
            self._refuse(f"{exc}; nothing of it is applied")
        else:
            self._apply(config)
            _log.info("read %s again", path)
        self._notify_ready()

    def _apply(self, config: Config) -> None:
        for name in ("node", "state_dir", "clips"):
            if getattr(config, name) != getattr(self._config, name):
                self._refuse(f"{name} has changed, which needs a restart")
        logging.getLogger().setLevel(config.log_level.upper())
        mqtt = self._config.mqtt
        if config.mqtt != mqtt:
            try:
                self._node.connect_as(config.mqtt)
                mqtt = config.mqtt
            except EdgeasdError as exc:
                self._refuse(str(exc))
        # Machines that are new talk at the new interval; those before keep theirs.
        self._config = replace(self._config, mqtt=mqtt, log_level=config.log_level)
        wanted = {machine.name: machine for machine in config.machine}
        for name in [name for name in self._machines if name not in wanted]:
            self._machines.pop(name).monitor.stop(_STOP_TIMEOUT_S)
            self._node.forget(name)
            _log.info("%s: no longer listened to", name)
        for machine in wanted.values():
            self._apply_machine(machine)
        for each in self._machines.values():
            each.voice.repeat()

    def _apply_machine(self, wanted: MachineConfig) -> None:
        machine = self._machines.get(wanted.name)
        try:
            if machine is None:
                self._start(wanted)
            elif machine.config.source != wanted.source:
                self._reopen(machine, wanted)
            elif machine.config != wanted:
                machine.change(wanted)
        except EdgeasdError as exc:
            self._refuse(f"machine {wanted.name!r}: {exc}")

    def _start(self, config: MachineConfig) -> None:
        machine = self._make(config)
        self._machines[config.name] = machine
        machine.monitor.start()

    def _reopen(self, machine: Machine, wanted: MachineConfig) -> None:
        """Have a machine heard by another source; by the one before if that cannot be used."""
        # First of all it must let go of the device, which the new one may want too.
        machine.monitor.stop(_STOP_TIMEOUT_S)
        try:
            self._start(wanted)
        except EdgeasdError:
            self._start(machine.config)
            raise

    def _refuse(self, reason: str) -> None:
        _log.error("not applied: %s", reason)
        self._refused.append(reason)

    def _tell_states(self) -> bool:
        news = False
        for machine in self._machines.values():
            news |= machine.tell_state()
        told = (
            self._node.publisher.connected,
            self._node.publisher.fault,
            self._node.outbox.fault,
            self._node.clips.fault,
        )
        news |= told != self._told
        self._told = told
        return news

    def _progressing(self) -> bool:
        running = [one for one in self._machines.values() if one.monitor.running]
        return alive([one.facts() for one in running], network=self._node.publisher.is_alive)

    def _leave_if_a_device_hangs(self) -> None:
        for machine in self._machines.values():
            if hangs(machine.facts()):
                # Every event is on disk already.  What follows, the last words to the broker, may
                # take its time but not for ever.
                last = threading.Timer(_LEAVE_TIMEOUT_S, os._exit, (HungDeviceError.exit_code,))
                last.daemon = True
                last.start()
                raise HungDeviceError(
                    f"machine {machine.config.name!r}: {machine.voice.reason}; "
                    "leaving for a restart"
                )

    def _tell_health(self) -> None:
        node = self._node
        payload = health_payload(
            node=node.name,
            time_s=time.time(),
            version=__version__,
            uptime_s=time.monotonic() - self._started_at,
            boot_id=node.boot_id,
            mqtt=MqttHealth(
                connected=node.publisher.connected,
                reconnects=node.publisher.reconnects,
                queued_events=len(node.outbox),
                dropped_events=node.outbox.dropped,
                fault=node.publisher.fault,
            ),
            machines=[machine.health() for machine in self._machines.values()],
            storage_fault=node.outbox.fault,
            clips=node.clips.health,
            refused=self._refused,
        )
        node.publisher.publish_retained(node.topics.health, encode(payload))

    def _log_summary(self) -> None:
        for machine in self._machines.values():
            health = machine.health()
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
                len(self._node.outbox),
            )

    def _finish(self) -> None:
        """Give what a finished replay found time to reach the broker."""
        _log.info("every source has ended")
        self._log_summary()
        deadline = time.monotonic() + _DELIVERY_TIMEOUT_S
        node = self._node
        while (len(node.outbox) or not node.publisher.connected) and time.monotonic() < deadline:
            if self._stopping:
                return
            time.sleep(_TICK_S / 5)

    def _stop_machines(self) -> None:
        for machine in self._machines.values():
            machine.monitor.stop(_STOP_TIMEOUT_S)
