"""Record from a microphone in a process of its own: a line of JSON a block on stdout.

Usage: ``python -m tests.capture.record_microphone DEVICE N_SAMPLES FILE``; the samples go into
FILE as 16-bit numbers, at 16 kHz.  A line is written for every block, and for every 100 ms without
one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from edgeasd.capture.source import open_source
from edgeasd.common.config.keys import MicrophoneConfig
from edgeasd.common.types import INT16_FULL_SCALE


def main(device: str, n_samples: int, path: Path) -> None:
    """Record *n_samples* samples of *device* to *path*."""
    source = open_source(MicrophoneConfig(device=device, sample_rate=16_000))
    n_read = 0
    with path.open("wb") as file:
        while n_read < n_samples:
            block = source.read(0.1)
            line: dict[str, object] = {"time_s": time.monotonic(), "fault": source.fault}
            if block is not None:
                samples = (block.samples * INT16_FULL_SCALE).astype(np.int16)
                n_read += samples.size
                file.write(samples.tobytes())
                line |= {"first_sample": block.first_sample, "n_samples": samples.size}
            print(json.dumps(line | {"overruns": source.overruns}), flush=True)
    source.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    # With a stuck device, Python's usual way out would hang.
    os._exit(0)
