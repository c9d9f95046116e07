"""An installation for tests of the whole daemon: its folder, its broker, its processes."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edgeasd.common.config.keys import Config, FileConfig, MachineConfig
from edgeasd.common.types import Float32Array
from edgeasd.models.cache import Models
from edgeasd.models.calibration_file import Calibration
from edgeasd.service.machine.machine import STOP_TIMEOUT_S, Machine
from edgeasd.service.machine.reporter import Reporter
from edgeasd.service.node import Node
from tests.commands import edgeasd
from tests.detect.models import faulty_sound, make_model, normal_sound
from tests.publish.brokers import Subscriber

RATE = 16_000
NODE = "edgeasd/v1/n1"
SCHEMAS = Path(__file__).parents[1] / "deploy" / "schemas"
FILE = '[machine.file]\npath = "sound.wav"\npaced = false'
PACED = '[machine.file]\npath = "long.wav"'
SENSITIVE = "\n[machine.alarm]\nthreshold = -1e9\nclear_threshold = -1e9\nraise_after = 1"
SIMULATOR = "[machine.simulator]\nfault_duration_s = 0"


@contextmanager
def listening_machine(folder: Path) -> Iterator[Machine]:
    """Give a machine in *folder* that hears a healthy one, in real time."""
    path = make_model(folder / "tiny.onnx", clip_windows=4)
    soundfile.write(folder / "sound.wav", normal_sound(20 * RATE, 5), RATE)
    config = MachineConfig("m1", path, source=FileConfig(folder / "sound.wav", repeat=True))
    plan = Config((config,), node="n1", state_dir=folder / "state")
    node = Node(plan)
    machine = Machine(config, node, Models(), Reporter(node, config.name))
    machine.start()
    yield machine
    machine.stop(STOP_TIMEOUT_S)
    node.outbox.close()


@functools.cache
def fault_that_passes() -> bytes:
    """Return a recording that goes wrong after 25 s, and well again 15 s later."""
    sound = [normal_sound(25 * RATE, 5), faulty_sound(15 * RATE, 6), normal_sound(25 * RATE, 7)]
    return _wav(np.concatenate(sound))


@functools.cache
def two_normal_minutes() -> bytes:
    """Return a recording of a healthy machine."""
    return _wav(normal_sound(120 * RATE, 5))


def _wav(samples: Float32Array) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()


class Installation:
    """A folder with a model, a recording, a configuration and the daemon that runs by it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.config = folder / "edgeasd.toml"
        self.processes: list[subprocess.Popen[str]] = []
        make_model(folder / "tiny.onnx")
        (folder / "sound.wav").write_bytes(fault_that_passes())

    def configure(self, *machines: str, mqtt: str = "") -> None:
        """Write the configuration; *machines* are the tables of their sources."""
        tables = [
            f'[[machine]]\nname = "m{number}"\nmodel = "tiny.onnx"\n{machine}\n'
            for number, machine in enumerate(machines, start=1)
        ]
        self.config.write_text(
            f'node = "n1"\nstate_dir = "state"\n[mqtt]\nhost = "127.0.0.1"\nport = {self.port}\n'
            f"{mqtt}\n" + "\n".join(tables)
        )

    def command(self) -> list[str]:
        """Return the command line of the daemon."""
        return [sys.executable, "-m", "edgeasd", "run", "--config", str(self.config)]

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Start the daemon."""
        process = subprocess.Popen(
            self.command(),
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.processes.append(process)
        return process

    def run_for_journal(self) -> tuple[int, str]:
        """Run the daemon with a journal's socket as standard error; return its code and log."""
        ours, journal = socket.socketpair()
        with ours, journal:
            found = os.fstat(ours.fileno())
            process = subprocess.Popen(
                self.command(),
                stderr=ours.fileno(),
                text=True,
                env={**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
            )
            self.processes.append(process)
            ours.close()
            log = journal.makefile().read()
        return process.wait(timeout=60), log

    def score(self, file: str = "sound.wav") -> list[dict[str, Any]]:
        """Return what ``edgeasd score`` says of *file*."""
        result = edgeasd("score", "--model", self.folder / "tiny.onnx", self.folder / file)
        result.check_returncode()
        return [json.loads(line) for line in result.stdout.splitlines()]


def calibration(sha256: str) -> Calibration:
    """Return a calibration with a threshold that is its own."""
    return Calibration(
        number=1,
        model_sha256=sha256,
        section="00",
        created="2026-11-23T00:00:00+00:00",
        threshold=77.0,
        clear_threshold=55.0,
        raise_after=4,
        clear_after=8,
        cool_down_s=30.0,
        budget_per_week=1.0,
        expected_per_week=1.0,
        low_per_week=0.1,
        high_per_week=9.0,
        method="tail",
        fit={},
        sound_s=3600.0,
        decisions=360,
        score_quantiles=(1.0, 2.0, 3.0),
    )


def reload(process: subprocess.Popen[str]) -> None:
    """Have the daemon read its configuration again."""
    process.send_signal(signal.SIGHUP)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait until the daemon ends well, and return what it logged."""
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return log


def events(subscriber: Subscriber, machine: str = "m1") -> list[dict[str, Any]]:
    """Return the events received of *machine*."""
    return [json.loads(payload) for payload in subscriber.on(f"{NODE}/{machine}/event")]


def last_heard(subscriber: Subscriber, topic: str) -> dict[str, Any]:
    """Return what was last received on a *topic* of the node; empty if nothing was."""
    payloads = [payload for payload in subscriber.on(f"{NODE}/{topic}") if payload]
    found: dict[str, Any] = json.loads(payloads[-1]) if payloads else {}
    return found


def machine_health(health: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what *health* says of the machine *name*; empty if it does not know it."""
    found = [one for one in health.get("machines", []) if one["name"] == name]
    return found[0] if found else {}
