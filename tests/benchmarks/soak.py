"""``python -m tests.benchmarks.soak``: a day of sound at eight machines, as fast as it goes.

A real daemon plays recordings that repeat, publishes to a real mosquitto, and a subscriber collects
its events.  The first machine has a worn bearing for two of every ten minutes.  After each hour of
sound the daemon's memory, file descriptors and threads are looked at: none may grow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

from edgeasd.capture.simulator.rotating_machine import SAMPLE_RATE, render_clip
from edgeasd.detect.windows import WindowSpec
from tests.detect.models import make_model
from tests.publish.brokers import Mosquitto, Subscriber

N_MACHINES = 8
HOP_S = 0.256
HEALTHY_S, FAULTY_S = 480.0, 120.0
SETTLING_S = 60.0
"""Ample for a score to fall below the threshold, and for the run length after that."""
MOST_GROWTH = 0.05
STOP_S = 60.0
HEADER = (
    f"{'sound':>8}{'events':>8}{'gaps':>6}{'memory':>11}{'descriptors':>13}{'threads':>9}"
    f"{'queued':>8}{'dropped':>9}{'elapsed':>10}"
)


@dataclass(frozen=True)
class Sample:
    """The daemon after some hours of sound."""

    hours: float
    n_gaps: int
    resident_mb: float
    n_descriptors: int
    n_threads: int
    n_queued: int
    n_dropped: int

    def row(self, n_events: int, elapsed_s: float) -> str:
        """Return a line of the table."""
        return (
            f"{self.hours:6.1f} h{n_events:8}{self.n_gaps:6}{self.resident_mb:8.1f} MB"
            f"{self.n_descriptors:13}{self.n_threads:9}{self.n_queued:8}{self.n_dropped:9}"
            f"{elapsed_s:8.0f} s"
        )


def prepare(folder: Path, port: int) -> Path:
    """Write model, recordings and configuration, and return the path of the last."""
    # Mean and maximum of each mel bin over windows that do not overlap: small, as in recipe `edge`.
    make_model(
        folder / "model.onnx",
        window=WindowSpec(n_frames=8, hop_frames=8, median_frames=1),
        clip_windows=38,
        normal=render_clip(seed=1, duration_s=120.0),
    )
    healthy = render_clip(seed=2, duration_s=HEALTHY_S)
    faulty = render_clip(seed=3, duration_s=FAULTY_S, faulty=True)
    for name, samples in (
        ("healthy", healthy),
        ("now_and_then", np.concatenate((healthy, faulty))),
    ):
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE, subtype="PCM_16")
    machines = (
        f'[[machine]]\nname = "m{index}"\nmodel = "model.onnx"\n[machine.file]\n'
        f'path = "{"healthy" if index else "now_and_then"}.wav"\npaced = false\nrepeat = true\n'
        for index in range(N_MACHINES)
    )
    config = folder / "edgeasd.toml"
    config.write_text(
        'node = "soak"\nstate_dir = "state"\nlog_level = "error"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nhealth_interval_s = 1.0\n' + "".join(machines)
    )
    return config


def look(process: psutil.Process, health: dict[str, Any]) -> Sample:
    """Return how the daemon is, its sound counted by the machine that heard least."""
    machines = health["machines"]
    return Sample(
        hours=min(machine["windows"] for machine in machines) * HOP_S / 3600,
        n_gaps=sum(machine["gaps"] + machine["overruns"] for machine in machines),
        resident_mb=process.memory_info().rss / 1e6,
        n_descriptors=process.num_fds(),
        n_threads=process.num_threads(),
        n_queued=health["mqtt"]["queued_events"],
        n_dropped=health["mqtt"]["dropped_events"],
    )


def listen(
    daemon: subprocess.Popen[bytes], node: Subscriber, events: Subscriber, hours: float
) -> list[Sample]:
    """Print a row for each hour of sound until there are so many, and return their samples."""
    process = psutil.Process(daemon.pid)
    began_s = time.monotonic()
    samples: list[Sample] = []
    print(HEADER, flush=True)
    while not samples or samples[-1].hours < hours:
        time.sleep(0.2)
        assert daemon.poll() is None, "the daemon has ended"
        payloads = node.on("edgeasd/v1/soak/health")
        sample = look(process, json.loads(payloads[-1])) if payloads else None
        if sample and sample.hours >= min(len(samples) + 1, hours):
            samples.append(sample)
            print(sample.row(len(events.messages), time.monotonic() - began_s), flush=True)
    return samples


def faults_of(events: Sequence[dict[str, Any]], hours: float) -> list[str]:
    """Return what is wrong with the *events* of *hours* of sound, in words."""
    faults = []
    if any(event["machine"] != "m0" for event in events):
        faults.append("a healthy machine raised an alarm")
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        faults.append("an event is missing, doubled or out of order")
    changes = [event["type"] for event in events if event["type"] != "update"]
    if changes != ["start", "end"] * (len(changes) // 2) + ["start"] * (len(changes) % 2):
        faults.append("a start has no end")
    least = int((hours * 3600 - SETTLING_S) / (HEALTHY_S + FAULTY_S))
    if changes.count("end") < least:
        faults.append(f"of at least {least} alarms {changes.count('end')} came to their end")
    return faults


def growth_of(samples: Sequence[Sample]) -> list[str]:
    """Return what grew after the first hour and may not, in words."""
    first, last = samples[0], samples[-1]
    growth = last.resident_mb / first.resident_mb - 1.0
    print(f"memory after the last hour against the first: {100 * growth:+.1f} % (at most 5 %)")
    checks = {
        "memory grew": growth > MOST_GROWTH,
        "descriptors grew": last.n_descriptors > first.n_descriptors,
        "threads grew": last.n_threads > first.n_threads,
        "there are gaps": last.n_gaps > 0,
        "events were dropped": last.n_dropped > 0,
    }
    return [name for name, holds in checks.items() if holds]


def main() -> None:
    """Run the daemon for hours of sound, and exit with 1 if anything grew or was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=24.0, help="of sound at each machine")
    hours = parser.parse_args().hours
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = Mosquitto(folder / "broker")
        broker.start()
        stack.callback(broker.stop)
        # The broker keeps the events if this process is slow.
        events = Subscriber(broker.port, "edgeasd/v1/soak/+/event", client_id="soak")
        stack.callback(events.close)
        node = Subscriber(broker.port, "edgeasd/v1/soak/+")  # health and availability
        stack.callback(node.close)
        config = prepare(folder, broker.port)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "edgeasd", "run", "--config", config],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            samples = listen(daemon, node, events, hours)
        finally:
            daemon.terminate()
            daemon.wait(STOP_S)
        # Said last, so all events are there.
        node.wait_for("edgeasd/v1/soak/availability", b"offline")
    told = [message.json for message in events.messages]
    counts = Counter(event["type"] for event in told)
    print("events: " + ", ".join(f"{counts[kind]} {kind}" for kind in ("start", "update", "end")))
    faults = [*growth_of(samples), *faults_of(told, samples[-1].hours)]
    print("FAIL: " + "; ".join(faults) if faults else "all held")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
