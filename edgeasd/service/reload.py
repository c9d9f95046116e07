"""A new configuration for a daemon that runs: what is valid is applied, the rest refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from edgeasd.common.config import Config, MqttConfig
from edgeasd.common.errors import EdgeasdError
from edgeasd.service.machines import Machines
from edgeasd.service.node import Node

_log = logging.getLogger(__name__)


class Reload:
    """One reading of the configuration, on its way into the daemon.

    Args:
        node: What all machines share.
        machines: Changed in place.

    Attributes:
        refused: What is not applied, in words, but for machines, which tell it themselves.
    """

    def __init__(self, node: Node, machines: Machines) -> None:
        self._node = node
        self._machines = machines
        self.refused: list[str] = []

    def refuse(self, reason: str) -> None:
        """Take note of what is not applied."""
        _log.error("not applied: %s", reason)
        self.refused.append(reason)

    def apply(self, now: Config, wanted: Config, go_on: Callable[[], bool]) -> Config:
        """Go over from one configuration to another, and return what is in force then.

        Args:
            now: Configuration in force.
            wanted: Configuration to go over to.
            go_on: Asked after each machine; if not, the rest is left.
        """
        for name in ("node", "state_dir", "clips"):
            if getattr(wanted, name) != getattr(now, name):
                self.refuse(f"{name} has changed, which needs a restart")
        logging.getLogger().setLevel(wanted.log_level.upper())
        mqtt = self._apply_mqtt(now.mqtt, wanted.mqtt)
        self._machines.apply(wanted.machine, go_on)
        for machine in self._machines:
            machine.listener.score_interval_s = mqtt.score_interval_s
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
            self._machines.repeat_states()
        return wanted
