"""The daemon: builds everything from the configuration, then watches over it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

from edgeasd import __version__
from edgeasd.config import Config, MachineConfig
from edgeasd.config_file import load_config
from edgeasd.errors import ConfigError, EdgeasdError, HungDeviceError
from edgeasd.health import alive, hangs
from edgeasd.machine import STOP_TIMEOUT_S, Machine
from edgeasd.model_files import Models
from edgeasd.publish.health_payload import MqttHealth, encode_health, health_payload
from edgeasd.reload import Reload
from edgeasd.systemd import notify, notify_reloading, watchdog_interval_s
from edgeasd.voice import Node

_TICK_S = 0.25
_SUMMARY_INTERVAL_S = 60.0
_FOLLOW_INTERVAL_S = 2.0
_DELIVERY_TIMEOUT_S = 5.0
_LEAVE_TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


class Daemon:
    """All machines of this computer, their way to the broker, and the supervision of both.

    Args:
        config: The configuration.
        path: Of its file, which `reload` reads; None if it comes from none.

    Raises:
        EdgeasdError: If a model, a recording or the state directory cannot be used.
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
        self._node.remember(self._machines)
        for machine in self._machines.values():
            machine.monitor.start()
        self._notify_ready()
        try:
            self._supervise()
        finally:
            notify("STOPPING=1")
            self._stop_machines()
            self._node.clips.stop(STOP_TIMEOUT_S)
            self._node.stop()
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
            ended = self._has_ended()
            news = False
            if self._reload_asked and self._path is not None:
                self._reload_asked = False
                self._reload(self._path)
                ended, news = False, True
            if now >= follow_at:
                follow_at = now + _FOLLOW_INTERVAL_S
                followed = [machine.follow() for machine in self._machines.values()]
                news |= any(followed)
            self._node.look_after()
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
        reload = Reload(self._node, self._machines, self._make)
        try:
            wanted = load_config(path)
        except ConfigError as exc:
            reload.refuse(f"{exc}; nothing of it is applied")
        else:
            self._config = reload.apply(self._config, wanted)
            _log.info("read %s again", path)
        self._refused = reload.refused
        self._notify_ready()

    def _has_ended(self) -> bool:
        # Where all are refused there is no machine, and a better configuration is waited for.
        machines = self._machines.values()
        return len(machines) > 0 and all(machine.ended for machine in machines)

    def _tell_states(self) -> bool:
        news = False
        for machine in self._machines.values():
            news |= machine.tell_state()
        told = (
            self._node.publisher.connected,
            self._node.fault,
            self._node.outbox.fault,
            self._node.clips.fault,
        )
        news |= told != self._told
        self._told = told
        return news

    def _progressing(self) -> bool:
        running = [machine for machine in self._machines.values() if not machine.ended]
        return alive(
            [machine.monitor.facts() for machine in running], network=self._node.publisher.is_alive
        )

    def _leave_if_a_device_hangs(self) -> None:
        for machine in self._machines.values():
            if hangs(machine.monitor.facts()):
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
                fault=node.fault,
            ),
            machines=[machine.health() for machine in self._machines.values()],
            storage_fault=node.outbox.fault,
            clips=node.clips.health,
            refused=self._refused,
        )
        topic = node.topics.health
        node.publisher.publish_retained(topic, encode_health(payload, node.publisher.room(topic)))

    def _log_summary(self) -> None:
        n_queued = len(self._node.outbox)
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
                n_queued,
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
            machine.monitor.stop(STOP_TIMEOUT_S)
