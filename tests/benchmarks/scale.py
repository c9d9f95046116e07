"""``python -m tests.benchmarks.scale``: what each machine costs, and how many a core carries.

A real daemon, pinned to one core, listens to N machines in real time and publishes to a real
mosquitto.  Files of noise are played, all from the same moment, so that the windows of all machines
fall due at once: the worst case.  With one machine the sound comes through PortAudio as well.

The cost is the process's own CPU time, which other load does not change much; latencies are those
of the core as it is, and what others take of it is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.networks import make_network, make_statistics
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.publish.brokers import Mosquitto

RATE = 16_000
CHECKOUT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("scale_daemon.py")
HOP_S = 0.256
"""A window must be done before the next one is due, so many seconds later."""
MICROPHONE = f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}\n'
FILE = '[machine.file]\npath = "sound.wav"\n'
HEADER = (
    f"{'model':12}{'source':12}{'machines':>9}{'CPU/machine':>13}{'CPU':>7}{'p50':>9}{'p99':>9}"
    f"{'longest':>9}{'scores':>9}{'gaps':>6}{'others':>8}"
)


def configure(folder: Path, model: str, n_machines: int, port: int, source: str) -> Path:
    """Write the configuration of *n_machines* that share *model* and return its path."""
    machines = (
        f'[[machine]]\nname = "m{index}"\nmodel = "{model}.onnx"\nsection = "00"\n{source}'
        for index in range(n_machines)
    )
    path = folder / "edgeasd.toml"
    path.write_text(
        f'state_dir = "state"\nlog_level = "error"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n'
        + "".join(machines)
    )
    return path


@dataclass(frozen=True)
class Run:
    """What one run of a daemon showed.

    Attributes:
        cpu: Seconds of the core per second.
        others: What other processes took of the core, as `cpu`.
        latencies_s: From the time a window's last sample was due to that of its score, rising.
        n_least: Scores of the machine that had the fewest.
        n_gaps: Interruptions of the sound, as by an overrun.
    """

    cpu: float
    others: float
    latencies_s: list[float]
    n_least: int
    n_gaps: int

    def in_time(self, seconds: float) -> bool:
        """Return whether all windows were scored, and 99 % of them before the next was due."""
        expected = 0.98 * seconds / HOP_S
        return float(np.quantile(self.latencies_s, 0.99)) <= HOP_S and self.n_least >= expected


def run_daemon(
    config: Path,
    checkout: Path,
    seconds: float,
    environment: dict[str, str],
    device: VirtualMicrophone | None = None,
) -> Run:
    """Run the daemon of *checkout* pinned to the last core."""
    core = max(os.sched_getaffinity(0))
    child = subprocess.run(
        ["taskset", "--cpu-list", str(core), sys.executable, CHILD, config, str(seconds)],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", **environment},
        cwd=config.parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    report = json.loads(child.stdout)
    latencies_s = [
        score_s - (due_s(device, end) if device else machine["start_s"] + end / RATE)
        for machine in report["machines"]
        for score_s, end in machine["scores"]
    ]
    n_least = min(len(machine["scores"]) for machine in report["machines"])
    return Run(report["cpu"], report["others"], sorted(latencies_s), n_least, report["gaps"])


def due_s(device: VirtualMicrophone, end: int) -> float:
    """Return when *device* had been fed all samples before *end*."""
    return next(fed_s for n_written, fed_s in device.writes if n_written >= end)


def row(model: str, source: str, n_machines: int, run: Run) -> str:
    """Return a line of the table."""
    p50, p99 = (1000 * float(np.quantile(run.latencies_s, share)) for share in (0.5, 0.99))
    return (
        f"{model:12}{source:12}{n_machines:9}{100 * run.cpu / n_machines:11.2f} %"
        f"{100 * run.cpu:5.0f} %{p50:6.0f} ms{p99:6.0f} ms{1000 * run.latencies_s[-1]:6.0f} ms"
        f"{len(run.latencies_s):9}{run.n_gaps:6}{100 * run.others:6.0f} %"
    )


@contextmanager
def microphone(folder: Path, seconds: float) -> Iterator[VirtualMicrophone]:
    """Feed the virtual microphone."""
    noise = np.random.default_rng(1).normal(0, 1000, round(seconds * RATE)).astype(np.int16)
    with (
        tempfile.TemporaryDirectory(dir=folder) as directory,
        VirtualMicrophone(Path(directory)) as device,
    ):
        device.feed(noise)
        yield device


def prepare(folder: Path, seconds: float) -> None:
    """Write both models, and noise for longer than a run takes."""
    (folder / "network.onnx").write_bytes(make_network()[1])
    (folder / "statistics.onnx").write_bytes(make_statistics())
    noise = np.random.default_rng(0).normal(0, 1000, round((seconds + 60) * RATE))
    soundfile.write(folder / "sound.wav", noise.astype(np.int16), RATE, subtype="PCM_16")


class Bench:
    """Runs daemons on the files in *folder* and prints a line for each.

    Args:
        folder: With models and sound; see `prepare`.
        seconds: Measured, of each run.
        checkouts: Whose daemons are run in turn.
    """

    def __init__(self, folder: Path, seconds: float, checkouts: list[Path]) -> None:
        self._folder = folder
        self._seconds = seconds
        self._checkouts = checkouts
        self._broker = Mosquitto(folder / "broker")

    def __enter__(self) -> Bench:  # noqa: PYI034 - Self came with Python 3.11
        self._broker.start()
        print(HEADER, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._broker.stop()

    def microphone(self, model: str) -> None:
        """Measure one machine on a microphone."""
        config = configure(self._folder, model, 1, self._broker.port, MICROPHONE)
        for checkout in self._checkouts:
            with microphone(self._folder, self._seconds + 60) as device:
                run = run_daemon(config, checkout, self._seconds, device.environment, device)
            self._print(model, "microphone", 1, run, checkout)

    def files(self, model: str, n_machines: int) -> Run:
        """Measure *n_machines* on files and return what the last daemon saw."""
        config = configure(self._folder, model, n_machines, self._broker.port, FILE)
        for checkout in self._checkouts:
            run = run_daemon(config, checkout, self._seconds, {})
            self._print(model, "file", n_machines, run, checkout)
        return run

    def capacity(self, model: str, n_machines: int, run: Run) -> None:
        """Try numbers of machines around the one that the cost speaks for, until one is carried."""
        tried = round(n_machines / run.cpu)
        while not self.files(model, tried).in_time(self._seconds):
            tried = round(0.9 * tried)
        print(f"{model}: one core carried {tried} machines in real time", flush=True)

    def _print(self, model: str, source: str, n_machines: int, run: Run, checkout: Path) -> None:
        line = row(model, source, n_machines, run)
        line += "" if run.in_time(self._seconds) else "  late"
        line += "" if len(self._checkouts) == 1 else f"  {checkout.name}"
        print(line, flush=True)


def main() -> None:
    """Print a row for each number of machines, and of each checkout in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--models", nargs="+", default=["network", "statistics"])
    parser.add_argument("--seconds", type=float, default=30.0, help="measured, of each run")
    parser.add_argument("--beside", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--capacity", action="store_true", help="find how many a core carries")
    args = parser.parse_args()
    checkouts = [CHECKOUT] if args.beside is None else [args.beside.resolve(), CHECKOUT]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args.seconds)
        with Bench(folder, args.seconds, checkouts) as bench:
            for model in args.models:
                bench.microphone(model)
                for n_machines in args.machines:
                    run = bench.files(model, n_machines)
                if args.capacity:
                    bench.capacity(model, n_machines, run)


if __name__ == "__main__":
    main()
