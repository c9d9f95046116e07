"""A sound server that ends, comes back and stands still, seen through the real PortAudio."""

from __future__ import annotations

import shutil
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.capture.recording import recording
from tests.capture.sound_servers import RATE, pulse_environment, pulseaudio

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.audio_device,
    pytest.mark.skipif(shutil.which("pulseaudio") is None, reason="needs Debian's pulseaudio"),
]


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
            recording("pulse", pulse_environment(tmp_path), 4 * RATE, tmp_path / "captured")
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
        recording(
            "pulse", pulse_environment(tmp_path), 4 * RATE, tmp_path / "captured"
        ) as captured,
    ):
        captured.wait_for(lambda line: line.get("first_sample", 0) > RATE)
        server.send_signal(signal.SIGSTOP)
        captured.wait_for(lambda line: "gives no sound" in line["fault"])
        server.send_signal(signal.SIGCONT)
        blocks = captured.finish()

    lags = lags_s(blocks)
    assert (blocks[-1]["overruns"], blocks[-1]["fault"]) == (1, "")
    assert np.median(lags[-10:]) == pytest.approx(np.median(lags[10:20]), abs=0.2)
