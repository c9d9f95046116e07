"""A sound server that ends, comes back and stands still, seen through the real PortAudio."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.capture.recording import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = 16_000

pytestmark = [
    pytest.mark.audio_device,
    pytest.mark.skipif(shutil.which("pulseaudio") is None, reason="needs Debian's pulseaudio"),
]


@contextmanager
def pulseaudio(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a PulseAudio server with one silent input, until the end of the ``with`` statement."""
    socket = directory / "pulse.socket"
    socket.unlink(missing_ok=True)
    sound = "format=s16le rate=16000 channels=1"
    command = ["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-n"]
    for module in (
        f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        f"module-null-sink sink_name=hall {sound}",
        f"module-remap-source master=hall.monitor source_name=machine {sound} remix=no",
    ):
        command += ["-L", module]
    home = {"HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}
    with subprocess.Popen(command, env=os.environ | home, stderr=subprocess.DEVNULL) as server:
        try:
            deadline_s = time.monotonic() + 10.0
            while not socket.exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            yield server
        finally:
            server.kill()


def environment(directory: Path) -> dict[str, str]:
    """Return what a client needs in its environment."""
    return {"PULSE_SERVER": f"unix:{directory}/pulse.socket", "PULSE_SOURCE": "machine"}


def lags_s(blocks: list[dict[str, Any]]) -> list[float]:
    """Return by how much each position is behind the clock, apart from a constant."""
    return [
        block["time_s"] - (block["first_sample"] + block["n_samples"]) / RATE for block in blocks
    ]


def test_microphone_whose_server_ends_comes_back_with_it(tmp_path: Path) -> None:
    """The loss is a fault at once; after the return positions tell the time as before."""
    with ExitStack() as stack:
        server = stack.enter_context(pulseaudio(tmp_path))
        captured = stack.enter_context(
            recording("pulse", environment(tmp_path), 4 * RATE, tmp_path / "captured")
        )
        captured.wait_for(lambda line: line.get("first_sample", 0) > RATE)
        server.kill()
        server.wait()
        captured.wait_for(lambda line: "no microphone is there" in line["fault"])
        stack.enter_context(pulseaudio(tmp_path))
        blocks = captured.finish()

    lags = lags_s(blocks)
    assert (blocks[-1]["overruns"], blocks[-1]["fault"]) == (1, "")
    assert np.median(lags[-10:]) == pytest.approx(np.median(lags[10:20]), abs=0.2)


def test_microphone_whose_server_stands_still_drops_what_comes_late(tmp_path: Path) -> None:
    """A server that delivers the sound of a standstill afterwards moves no position ahead."""
    with (
        pulseaudio(tmp_path) as server,
        recording("pulse", environment(tmp_path), 4 * RATE, tmp_path / "captured") as captured,
    ):
        captured.wait_for(lambda line: line.get("first_sample", 0) > RATE)
        server.send_signal(signal.SIGSTOP)
        captured.wait_for(lambda line: "gives no sound" in line["fault"])
        server.send_signal(signal.SIGCONT)
        blocks = captured.finish()

    lags = lags_s(blocks)
    assert (blocks[-1]["overruns"], blocks[-1]["fault"]) == (1, "")
    assert np.median(lags[-10:]) == pytest.approx(np.median(lags[10:20]), abs=0.2)
