"""The daemon of `scale`, in a process of its own: it notes when each score came.

Imports nothing but edgeasd, so that `scale` can run it on another checkout of that.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from edgeasd.common.config.file import load_config
from edgeasd.common.types import AudioBlock
from edgeasd.detect.pipeline import Detection, Pipeline
from edgeasd.service.daemon import Daemon

WARM_UP_S = 13.0
"""The first score comes after 10 s of sound; models and caches are warm by then."""


class Arrivals:
    """When the blocks and the scores of one machine came.

    Nobody but the source knows when a sample was due.  Of a file, the block that came soonest after
    its last sample is taken to have come at once: a hundred of them come before the first window.

    Attributes:
        pipeline: Of the machine.
        start_s: Time of sample 0 by that block, ``time.monotonic()``.
        scores: Time and last sample of each score.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.start_s = float("inf")
        self.scores: list[tuple[float, int]] = []


def watch_pipelines() -> dict[int, Arrivals]:
    """Have every pipeline note its arrivals from now on."""
    arrivals: dict[int, Arrivals] = {}
    process = Pipeline.process

    def timed(self: Pipeline, block: AudioBlock) -> list[Detection]:
        mine = arrivals.setdefault(id(self), Arrivals(self))
        end_s = (block.first_sample + len(block.samples)) / self.sample_rate
        mine.start_s = min(mine.start_s, time.monotonic() - end_s)
        detections = process(self, block)
        now_s = time.monotonic()
        mine.scores += [(now_s, each.score.end_sample) for each in detections]
        return detections

    Pipeline.process = timed  # type: ignore[method-assign]
    return arrivals


def core_busy_s() -> float:
    """Return how long the core that this process is pinned to was busy since the start, seconds."""
    (core,) = os.sched_getaffinity(0)
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    (ticks,) = (line.split()[1:9] for line in lines if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _waiting, *interrupts_and_stolen = map(int, ticks)
    busy = user + nice + system + sum(interrupts_and_stolen)
    return busy / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the daemon of the configuration for some seconds and print what was seen, as JSON."""
    config, seconds = Path(sys.argv[1]), float(sys.argv[2])
    arrivals = watch_pipelines()
    daemon = Daemon(load_config(config))
    times: list[tuple[float, float, float]] = []

    def supervise() -> None:
        for pause_s in (WARM_UP_S, seconds):
            time.sleep(pause_s)
            times.append((time.monotonic(), time.process_time(), core_busy_s()))
        daemon.stop()

    threading.Thread(target=supervise, daemon=True).start()
    daemon.run()
    began_s = times[0][0]
    elapsed_s, cpu_s, busy_s = (after - before for before, after in zip(*times, strict=True))
    report = {
        "cpu": cpu_s / elapsed_s,
        "others": max(0.0, busy_s - cpu_s) / elapsed_s,
        "machines": [
            {
                "start_s": each.start_s,
                "scores": [score for score in each.scores if score[0] >= began_s],
            }
            for each in arrivals.values()
        ],
        "gaps": sum(each.pipeline.gaps for each in arrivals.values()),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
