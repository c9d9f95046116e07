"""A daemon reduced to its publisher, run as a script by tests that kill it.

Arguments: port, outbox file, and how many events to put once the broker has accepted.  Prints
``connected``, then each event's id once it is in the outbox.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from edgeasd.common.config.keys import MqttConfig
from edgeasd.publish.delivery.publisher import MqttPublisher
from edgeasd.publish.outbox.outbox import Outbox
from edgeasd.publish.topics import Topics


def main(port: int, path: Path, n_events: int) -> None:
    """Publish until killed."""
    topics = Topics("", "edge-03")
    outbox = Outbox(path)
    publisher = MqttPublisher(MqttConfig("127.0.0.1", port), topics, outbox, "edgeasd-edge-03")
    publisher.start()
    while not publisher.connected:
        time.sleep(0.005)
    print("connected", flush=True)
    sys.stdin.readline()
    for n in range(n_events):
        outbox.put(f"old-{n}", topics.event("press07"), f"old-{n}".encode())
        publisher.notify()
        print(f"old-{n}", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
