"""From recordings to the alert on a subscriber's desk, every part real.

Learns from the fan benchmark at -14 dB by recipe `edge`, exports the model, and runs the daemon on
a virtual microphone, in real time, against mosquitto: normal recordings, broken blades, normal
again.  Takes about five minutes; ``pytest -s`` shows the report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgeasd.common.types import Int16Array
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.publish.brokers import Mosquitto, Subscriber, wait_until
from tests.service.test_daemon import assert_same_scores

pytestmark = [
    pytest.mark.audio_device,
    pytest.mark.data,
    pytest.mark.network,
    pytest.mark.slow,
]

RATE = 16_000
SECTION = "02"
"""In the source domain none to one of its 37 normal test clips is above the first threshold; of
section 00 it is up to six of 40, and a minute of them may well raise an alarm."""
N_CLIPS = 6
CHECKOUT = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout; its messages go to the terminal."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def benchmark(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fan benchmark, its noise 14 dB above the machine."""
    folder = tmp_path_factory.mktemp("fan")
    run(data_folder / "make_fan.py", folder, "--snr", "-14")
    return folder / "fan"


@pytest.fixture(scope="module")
def model(benchmark: Path) -> Path:
    """What recipe `edge` learns from the benchmark's training clips, with its first threshold."""
    folder = benchmark.parent
    recipe = "train/recipes/edge.toml"
    run("-m", "train", "fit", recipe, "--data", benchmark, "--out", folder / "run")
    path = folder / "fan.onnx"
    run("-m", "train", "export", folder / "run", "--out", path)
    return path


@dataclass(frozen=True)
class Programme:
    """What the microphone hears: normal recordings, then broken blades, then normal ones again.

    Attributes:
        samples: All of it, cut to whole blocks of the virtual microphone.
        fault_start: First sample of the broken blades.
        fault_end: First sample after them.
    """

    samples: Int16Array
    fault_start: int
    fault_end: int


def make_programme(benchmark: Path) -> Programme:
    """Return test clips of one section one after the other; none of them was trained on."""

    def clips(label: str, first: int) -> Int16Array:
        paths = sorted((benchmark / "source_test").glob(f"section_{SECTION}_*_{label}_*"))
        chosen = paths[first : first + N_CLIPS]
        assert len(chosen) == N_CLIPS
        return np.concatenate([soundfile.read(path, dtype="int16")[0] for path in chosen])

    before, fault, after = clips("normal", 0), clips("anomaly", 0), clips("normal", N_CLIPS)
    samples = np.concatenate((before, fault, after))
    return Programme(samples, before.size, before.size + fault.size)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto that runs."""
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


def test_broken_blades_are_one_alert_from_microphone_to_subscriber(
    benchmark: Path, model: Path, broker: Mosquitto, tmp_path: Path
) -> None:
    """One start after the change and none before, one end; and a replay gives the same scores."""
    programme = make_programme(benchmark)
    config = tmp_path / "edgeasd.toml"
    config.write_text(
        f'node = "n1"\nstate_dir = "state"\n[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n'
        f'[[machine]]\nname = "fan"\nmodel = "{model}"\nsection = "{SECTION}"\n'
        f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}\n'
    )
    subscriber = Subscriber(broker.port, "edgeasd/v1/n1/#")
    alsa = tmp_path / "alsa"
    alsa.mkdir()
    with VirtualMicrophone(alsa) as microphone:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "edgeasd", "run", "--config", str(config)],
            env={**os.environ, **microphone.environment},
        )
        try:
            microphone.feed(programme.samples)
            n_fed = programme.samples.size // 512 * 512
            wait_until(lambda: microphone.n_written == n_fed, "all is played", 60 + n_fed / RATE)
            last_score = n_fed - 2 * RATE
            wait_until(lambda: _position(subscriber) > last_score, "all is scored")
        finally:
            daemon.terminate()
            daemon.wait(60.0)
        writes = list(microphone.writes)
    subscriber.wait_for("edgeasd/v1/n1/availability", b"offline")
    subscriber.close()

    told = [m for m in subscriber.messages if m.topic == "edgeasd/v1/n1/fan/event"]
    types = [message.json["type"] for message in told]
    assert types == ["start", *["update"] * (len(told) - 2), "end"]
    start, end = told[0].json, told[-1].json
    assert programme.fault_start < start["first_sample"] < programme.fault_end
    assert end["first_sample"] > programme.fault_end
    assert start["audio"]["gaps"] == end["audio"]["gaps"] == 0
    recording = tmp_path / "heard.wav"
    soundfile.write(recording, programme.samples, RATE, subtype="PCM_16")
    rows = replay(model, recording)
    assert_same_scores(
        [json.loads(payload) for payload in subscriber.on("edgeasd/v1/n1/fan/score")], rows
    )
    assert [(row["event"], row["score"]) for row in rows if row["event"]] == [
        (message.json["type"], message.json["score"]) for message in told
    ]
    print()
    for message, change in (
        (told[0], programme.fault_start),
        (told[-1], programme.fault_end),
    ):
        print(report(message.json, message.received_s, change, rows, writes))


def _position(subscriber: Subscriber) -> int:
    payloads = subscriber.on("edgeasd/v1/n1/fan/score")
    last = json.loads(payloads[-1]) if payloads else {"first_sample": 0, "n_samples": 0}
    return int(last["first_sample"] + last["n_samples"])


def replay(model: Path, recording: Path) -> list[dict[str, Any]]:
    """Return what ``edgeasd score`` says of *recording*."""
    result = run("-m", "edgeasd", "score", "--model", model, "--section", SECTION, recording)
    return [json.loads(line) for line in result.stdout.splitlines()]


def report(
    event: dict[str, Any],
    received_s: float,
    change: int,
    rows: list[dict[str, Any]],
    writes: list[tuple[int, float]],
) -> str:
    """Return where the time from the change to the subscriber went."""

    def heard_s(sample: int) -> float:
        """Return when the microphone delivered the sample before *sample*."""
        return next(time_s for end, time_s in writes if end >= sample)

    def crosses(score: float) -> bool:
        if event["type"] == "start":
            return bool(score >= event["threshold"])
        return bool(score < event["clear_threshold"])

    ends = {row["first_sample"] + row["n_samples"]: row["score"] for row in rows}
    first = event["first_sample"]
    while crosses(ends.get(first - 4096, float("nan"))):
        first -= 4096
    return (
        f"{event['type']}: {received_s - heard_s(change):.2f} s from the change to the subscriber: "
        f"{(first - change) / RATE:.2f} s of sound until the score crosses the threshold, "
        f"{(event['first_sample'] - first) / RATE:.2f} s for the run length, "
        f"{1000 * (received_s - heard_s(event['first_sample'])):.0f} ms from the last sample "
        "through PortAudio, scoring, outbox and broker"
    )
