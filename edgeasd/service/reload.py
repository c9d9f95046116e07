"""What has to be done to go over from one configuration to another; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeasd.common.config.keys import Config

_FIXED = ("node", "state_dir", "clips")
"""Keys that a running daemon cannot change: topics, lock and files in use hang on them."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The way from one configuration to another.

    Attributes:
        config: Configuration to go over to: the wanted one without what needs a restart.
        refused: What of the wanted configuration is not applied, in words.
        reconnects: Whether the broker or the account is another.
        removed: Names of machines that are no longer listened to.
        moved: Names of machines that get another source.  All of them let go of their devices
            before the first one opens another: they may exchange them.
    """

    config: Config
    refused: tuple[str, ...]
    reconnects: bool
    removed: tuple[str, ...]
    moved: tuple[str, ...]


def plan(now: Config, wanted: Config) -> Changes:
    """Return what has to be done to go over from the configuration in force to the *wanted* one.

    Args:
        now: Configuration in force, with each machine as it is listened to now.
        wanted: Configuration to go over to.
    """
    refused = [
        f"{name} has changed, which needs a restart"
        for name in _FIXED
        if getattr(wanted, name) != getattr(now, name)
    ]
    mqtt = wanted.mqtt
    if now.mqtt.base != mqtt.base:
        # An alarm that is raised would start on one topic and end on another.
        refused.append("mqtt.base has changed, which needs a restart; [mqtt] stays as it is")
        mqtt = now.mqtt
    # Another interval is no reason to leave the broker.
    intervals = {key: getattr(mqtt, key) for key in ("score_interval_s", "health_interval_s")}
    configs = {machine.name: machine for machine in wanted.machine}
    return Changes(
        config=replace(now, machine=wanted.machine, mqtt=mqtt, log_level=wanted.log_level),
        refused=tuple(refused),
        reconnects=replace(now.mqtt, **intervals) != mqtt,
        removed=tuple(one.name for one in now.machine if one.name not in configs),
        moved=tuple(
            one.name
            for one in now.machine
            if one.name in configs and configs[one.name].source != one.source
        ),
    )
