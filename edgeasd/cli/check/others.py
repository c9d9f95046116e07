"""Checks whether another client uses the name of this node, as far as a moment shows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from edgeasd.cli.check.report import CheckResult
from edgeasd.common.config.keys import Config
from edgeasd.common.errors import BrokerError
from edgeasd.publish.delivery.namesake import another_client
from edgeasd.publish.delivery.retained_notes import FILE_NAME, RetainedNotes
from edgeasd.publish.mqtt.inbound import Received
from edgeasd.publish.topics import ONLINE, Topics


def look_for_others(config: Config, heard: Iterable[Received]) -> CheckResult:
    """Check whether another client uses the name of the node.

    A running daemon has listened for longer, and reports another client in its health.

    Args:
        config: Configuration of this node.
        heard: Messages on the topics of the node.

    Raises:
        BrokerError: If another client does.
    """
    topics = Topics(config.mqtt.base, config.node)
    healths = [_parsed(one.payload) for one in heard if one.topic == topics.health and one.payload]
    words = [one.payload for one in heard if one.topic == topics.availability]
    runs = {str(said.get("boot_id")) for said in healths}
    mqtt = healths[-1].get("mqtt") if healths else None
    fault = str(mqtt.get("fault", "")) if isinstance(mqtt, dict) else ""
    another = another_client(config.node)
    here = _runs_here(config)
    is_online = words[-1:] == [ONLINE]
    is_elsewhere = is_online and runs and here and runs.isdisjoint(here)
    if len(runs) > 1 or another in fault or is_elsewhere:
        raise BrokerError(another)
    if is_online and here == []:
        return CheckResult(
            f"a client named {config.node} is online, but no daemon has run here yet; give each "
            "node its own name",
            doubtful=True,
        )
    if fault:
        return CheckResult(f"the running daemon reports: {fault}", doubtful=True)
    return CheckResult(f"no other client named {config.node} was heard")


def _runs_here(config: Config) -> list[str] | None:
    """Return the ids of the last runs of the daemon on this computer; None if unreadable."""
    path = config.state_dir / FILE_NAME
    try:
        path.stat()
    except FileNotFoundError:
        return []
    except OSError:
        return None
    return list(RetainedNotes(path).runs) or None if os.access(path, os.R_OK) else None


def _parsed(payload: bytes) -> dict[str, Any]:
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
