"""Does another client go by the name of this node, as far as can be seen in a moment?"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from edgeasd.cli.check.verdict import Finding
from edgeasd.common.config import Config
from edgeasd.common.errors import BrokerError
from edgeasd.publish.delivery.namesake import another_client
from edgeasd.publish.delivery.retained_notes import FILE_NAME, RetainedNotes
from edgeasd.publish.mqtt.inbound import Received
from edgeasd.publish.topics import ONLINE, Topics


def look_for_others(config: Config, heard: Iterable[Received]) -> Finding:
    """Say whether another client goes by the name of the node, by what was *heard* of it.

    The daemon that runs has listened for longer, and says so in its health.

    Raises:
        BrokerError: If one does.
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
        return Finding(
            f"a client of the name {config.node} is online, and no daemon ran here yet; give each "
            "node its own name",
            doubtful=True,
        )
    if fault:
        return Finding(f"the daemon that runs says: {fault}", doubtful=True)
    return Finding(f"nothing is heard of another client by the name {config.node}")


def _runs_here(config: Config) -> list[str] | None:
    """Return the last runs of the daemon on this computer; None if that may not be read."""
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
