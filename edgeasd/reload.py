"""A new configuration for a daemon that runs: what is valid is applied, the rest refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from edgeasd.config import Config, MachineConfig, MqttConfig
from edgeasd.errors import EdgeasdError
from edgeasd.machine import STOP_TIMEOUT_S, Machine
from edgeasd.voice import Node

_log = logging.getLogger(__name__)


class Reload:
    """One reading of the configuration, on its way into the daemon.

    Args:
        node: What all machines share.
        machines: By name; changed in place.
        make: Returns a new machine, not started yet.

    Attributes:
        refused: What is not applied, in words.
    """

    def __init__(
        self, node: Node, machines: dict[str, Machine], make: Callable[[MachineConfig], Machine]
    ) -> None:
        self._node = node
        self._machines = machines
        self._make = make
        self.refused: list[str] = []

    def refuse(self, reason: str) -> None:
        """Take note of what is not applied."""
        _log.error("not applied: %s", reason)
        self.refused.append(reason)

    def apply(self, now: Config, wanted: Config) -> Config:
        """Go over from one configuration to another, and return what is in force then."""
        for name in ("node", "state_dir", "clips"):
            if getattr(wanted, name) != getattr(now, name):
                self.refuse(f"{name} has changed, which needs a restart")
        logging.getLogger().setLevel(wanted.log_level.upper())
        mqtt = self._apply_mqtt(now.mqtt, wanted.mqtt)
        self._apply_machines(wanted)
        for machine in self._machines.values():
            machine.monitor.score_interval_s = mqtt.score_interval_s
            machine.voice.repeat()
        return replace(now, mqtt=mqtt, log_level=wanted.log_level)

    def _apply_mqtt(self, now: MqttConfig, wanted: MqttConfig) -> MqttConfig:
        # Intervals are the daemon's own and no reason to leave the broker.
        same = replace(
            now,
            score_interval_s=wanted.score_interval_s,
            health_interval_s=wanted.health_interval_s,
        )
        if now.base != wanted.base:
            # An alarm that is raised would have its start on one topic and its end on another.
            self.refuse("mqtt.base has changed, which needs a restart; [mqtt] stays as it is")
            return now
        if same != wanted:
            try:
                self._node.connect_as(wanted)
            except EdgeasdError as exc:
                self.refuse(str(exc))
                return now
        return wanted

    def _apply_machines(self, wanted: Config) -> None:
        configs = {config.name: config for config in wanted.machine}
        # First they let go of devices that others may want.
        for name in [name for name in self._machines if name not in configs]:
            self._machines.pop(name).monitor.stop(STOP_TIMEOUT_S)
            self._node.forget(name)
            _log.info("%s: no longer listened to", name)
        for name, machine in self._machines.items():
            machine.let_go(configs[name])
        for config in configs.values():
            self._apply_machine(config)
        self._node.remember(self._machines)

    def _apply_machine(self, wanted: MachineConfig) -> None:
        machine = self._machines.get(wanted.name)
        try:
            if machine is None:
                self._machines[wanted.name] = machine = self._make(wanted)
                machine.monitor.start()
            elif machine.config != wanted:
                machine.change(wanted)
        except EdgeasdError as exc:
            self.refuse(f"machine {wanted.name!r}: {exc}")
