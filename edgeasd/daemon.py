"""The daemon: builds everything from the configuration, then watches over it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from edgeasd import __version__
from edgeasd.capture.source import open_source
from edgeasd.config import Config, MachineConfig
from edgeasd.detect.model import Model, load_model
from edgeasd.detect.pipeline import Pipeline
from edgeasd.errors import ConfigError, EdgeasdError
from edgeasd.health import alive, judge
from edgeasd.monitor import Monitor, alarm_spec
from edgeasd.publish.payloads import MachineHealth, MqttHealth, encode, health_payload
from edgeasd.systemd import notify, watchdog_interval_s
from edgeasd.voice import MachineVoice, Node

_TICK_S = 0.25
_SUMMARY_INTERVAL_S = 60.0
_STOP_TIMEOUT_S = 3.0
_DELIVERY_TIMEOUT_S = 5.0
_log = logging.getLogger(__name__)


class Daemon:
    """All machines of this computer, their way to the broker, and the supervision of both.

    Args:
        config: The configuration.

    Raises:
        EdgeasdError: If a model, a source or the state directory cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = False
        self._started_at = time.monotonic()
        self._connected = False
        models = _load_models(config.machine)
        self._node = Node(config)
        self._voices: list[MachineVoice] = []
        self._monitors: list[Monitor] = []
        try:
            for machine in config.machine:
                self._add(machine, models[machine.model])
        except EdgeasdError:
            self._stop_monitors()
            self._node.outbox.close()
            raise

    def run(self) -> None:
        """Listen until `stop` is called or every source has ended.

        Raises:
            Exception: What ended a monitor that was not asked to end.
        """
        self._node.publisher.start()
        for monitor in self._monitors:
            monitor.start()
        notify("READY=1", f"STATUS=listening to {len(self._monitors)} machines")
        try:
            self._supervise()
        finally:
            notify("STOPPING=1")
            self._stop_monitors()
            self._node.publisher.stop()
            self._node.outbox.close()
        for monitor in self._monitors:
            if monitor.error is not None:
                raise monitor.error

    def stop(self) -> None:
        """Have `run` return soon."""
        # A plain value: a signal handler that took the lock of an event could wait for the very
        # thread that it interrupts.
        self._stopping = True

    def stop_on_signals(self) -> None:
        """Have SIGTERM and SIGINT call `stop`; for the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def _add(self, machine: MachineConfig, model: Model) -> None:
        section = model.section_index(machine.section)
        document = model.document
        try:
            alarm = alarm_spec(
                machine.alarm, document.sections[section], document.features.sample_rate
            )
        except ConfigError as exc:
            raise ConfigError(f"machine {machine.name!r}: {exc}") from exc
        voice = MachineVoice(self._node, machine.name, model, alarm.threshold)
        pipeline = Pipeline(model, section, alarm)
        source = open_source(machine.source)
        interval_s = self._config.mqtt.score_interval_s
        self._voices.append(voice)
        self._monitors.append(Monitor(machine.name, pipeline, source, voice, interval_s))
        _log.info(
            "%s: model %s, sha256 %.12s, threshold %.3f, clear threshold %.3f",
            machine.name,
            document.id,
            model.sha256,
            alarm.threshold,
            alarm.clear_threshold,
        )

    def _supervise(self) -> None:
        watchdog_s = watchdog_interval_s()
        watchdog_at = health_at = 0.0
        summary_at = time.monotonic() + _SUMMARY_INTERVAL_S
        while not self._stopping:
            self._node.changed.wait(_TICK_S)
            self._node.changed.clear()
            now = time.monotonic()
            # Asked first: what the last block brought is then told below.
            ended = not any(monitor.running for monitor in self._monitors)
            news = self._tell_states()
            if news or now >= health_at:
                health_at = now + self._config.mqtt.health_interval_s
                self._tell_health()
            if watchdog_s is not None and now >= watchdog_at and self._progressing():
                watchdog_at = now + watchdog_s
                notify("WATCHDOG=1")
            if now >= summary_at:
                summary_at = now + _SUMMARY_INTERVAL_S
                self._log_summary()
            if any(monitor.error is not None for monitor in self._monitors):
                return
            if ended:
                self._finish()
                return

    def _tell_states(self) -> bool:
        news = False
        for monitor, voice in zip(self._monitors, self._voices, strict=True):
            state, reason = judge(monitor.facts())
            news |= voice.tell_state(state, reason, monitor.last_score)
        connected = self._node.publisher.connected
        news |= connected != self._connected
        self._connected = connected
        return news

    def _progressing(self) -> bool:
        facts = [monitor.facts() for monitor in self._monitors if monitor.running]
        return alive(facts, network=self._node.publisher.is_alive)

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
            ),
            machines=[
                _machine_health(monitor, voice)
                for monitor, voice in zip(self._monitors, self._voices, strict=True)
            ],
            storage_fault=node.outbox.fault,
        )
        node.publisher.publish_retained(node.topics.health, encode(payload))

    def _log_summary(self) -> None:
        for monitor in self._monitors:
            audio = monitor.audio
            _log.info(
                "%s: blocks=%d gaps=%d overruns=%d windows=%d real_time_factor=%.3f "
                "level_dbfs=%.1f queued_alerts=%d",
                monitor.name,
                monitor.n_blocks,
                audio.gaps,
                audio.overruns,
                monitor.windows,
                monitor.real_time_factor,
                audio.level_dbfs,
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

    def _stop_monitors(self) -> None:
        for monitor in self._monitors:
            monitor.stop(_STOP_TIMEOUT_S)


def _load_models(machines: Sequence[MachineConfig]) -> dict[Path, Model]:
    """Load each model file once: machines that name the same file share the network."""
    paths = dict.fromkeys(machine.model for machine in machines)
    return {path: load_model(path) for path in paths}


def _machine_health(monitor: Monitor, voice: MachineVoice) -> MachineHealth:
    audio = monitor.audio
    return MachineHealth(
        name=monitor.name,
        state=voice.state,
        reason=voice.reason,
        blocks=monitor.n_blocks,
        windows=monitor.windows,
        gaps=audio.gaps,
        overruns=audio.overruns,
        real_time_factor=monitor.real_time_factor,
        level_dbfs=audio.level_dbfs,
        model=voice.identity,
    )
