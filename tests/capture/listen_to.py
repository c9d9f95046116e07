"""Listen to microphones in a process of its own: a line of JSON every 100 ms on stdout.

Usage: ``python -m tests.capture.listen_to``; a line ``NAME CHANNEL`` on stdin opens another one, at
16 kHz.  A line of output has, for each microphone in order, how many samples came, how loud the
last of them were, the fault and how often sound was lost.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import numpy as np

from edgeasd.capture.microphone.channel import Microphone
from edgeasd.common.config.keys import MicrophoneConfig
from edgeasd.common.errors import EdgeasdError


class Listener:
    """A microphone, and what came of it."""

    def __init__(self, device: str, channel: int) -> None:
        self.microphone = Microphone(
            MicrophoneConfig(device=device, channel=channel, sample_rate=16_000)
        )
        self.n_samples = 0
        self.level = 0.0
        self.position = 0

    def tell(self) -> dict[str, object]:
        """Return what came so far."""
        while (block := self.microphone.read(0.0)) is not None:
            self.n_samples += block.samples.size
            self.position = block.first_sample + block.samples.size
            self.level = float(np.abs(block.samples).max())
        return {
            "n_samples": self.n_samples,
            "position": self.position,
            "level": self.level,
            "fault": self.microphone.fault,
            "overruns": self.microphone.overruns,
        }


def main() -> None:
    """Do as the lines of stdin say, until their end."""
    listeners: list[Listener] = []
    refusals: list[str] = []

    def open_all() -> None:
        for line in sys.stdin:
            name, channel = line.split()
            try:
                listeners.append(Listener(name, int(channel)))
            except EdgeasdError as exc:
                refusals.append(str(exc))
        os._exit(0)

    threading.Thread(target=open_all, daemon=True).start()
    while True:
        time.sleep(0.1)
        told = [listener.tell() for listener in listeners]
        print(json.dumps({"time_s": time.monotonic(), "heard": told, "refused": refusals}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
