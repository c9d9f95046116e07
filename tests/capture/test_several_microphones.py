"""Several devices and several channels of one, through the real PortAudio, ALSA and PulseAudio."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.capture.recording import ROOT
from tests.capture.sound_servers import jack_environment, jackd, pulse_environment, pulseaudio
from tests.capture.virtual_microphone import DEVICE, SAMPLE_RATE, VirtualMicrophone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.audio_device,
    pytest.mark.skipif(shutil.which("pulseaudio") is None, reason="needs Debian's pulseaudio"),
    pytest.mark.skipif(shutil.which("jackd") is None, reason="needs Debian's jackd2"),
]


class Ear:
    """A process that listens, and what it hears."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.refused: list[str] = []

    def open(self, device: str, channel: int = 0) -> None:
        """Open another microphone."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{device} {channel}\n")
        self._process.stdin.flush()

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Return what is heard once it meets *condition*."""
        deadline_s = time.monotonic() + 40.0
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            self.refused = line["refused"]
            heard: list[dict[str, Any]] = line["heard"]
            if condition(heard):
                return heard
            assert time.monotonic() < deadline_s, line
        pytest.fail("it ended")


@contextmanager
def ear(environment: dict[str, str]) -> Iterator[Ear]:
    """Run a process that listens, until the end of the ``with`` statement."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.capture.listen_to"],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Ear(process)
        finally:
            process.kill()


def loud(n_samples: int, amplitude: int) -> np.ndarray[Any, Any]:
    """Return samples that alternate in sign."""
    return np.resize(np.array([amplitude, -amplitude], np.int16), n_samples)


def test_channels_of_one_device_are_heard_apart_and_come_and_go(tmp_path: Path) -> None:
    """A channel joins a device that is open without a gap for the one that listens."""
    samples = np.stack((loud(60 * SAMPLE_RATE, 8_192), loud(60 * SAMPLE_RATE, 4_096)), axis=1)

    with (
        VirtualMicrophone(tmp_path, n_channels=2) as microphone,
        ear(microphone.environment) as hearing,
    ):
        microphone.feed(samples.ravel())
        hearing.open(DEVICE, 1)
        hearing.wait_for(lambda heard: len(heard) == 1 and heard[0]["n_samples"] > SAMPLE_RATE)
        hearing.open(DEVICE, 0)
        right, left = hearing.wait_for(
            lambda heard: len(heard) == 2 and heard[1]["n_samples"] > SAMPLE_RATE
        )

    assert (right["level"], left["level"]) == (0.125, 0.25)
    assert (right["overruns"], left["overruns"]) == (0, 0)
    assert right["n_samples"] - left["n_samples"] >= SAMPLE_RATE // 2


def test_list_devices_offers_jack_through_alsa_only() -> None:
    """PortAudio's own JACK inputs, which cannot be read without callbacks, are left out."""
    name = f"edgeasd-{os.getpid()}"
    code = (
        "from edgeasd.capture.microphone.portaudio import list_devices\n"
        "print([device.full_name for device in list_devices()])"
    )

    with jackd(name):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | jack_environment(name),
            stdout=subprocess.PIPE,
            timeout=60.0,
            check=True,
            text=True,
        )

    assert done.stdout == "['jack, ALSA']\n"


def test_device_that_comes_back_does_not_disturb_another(tmp_path: Path) -> None:
    """A sound server ends and returns; the other device goes on without a gap."""
    with ExitStack() as stack:
        microphone = stack.enter_context(VirtualMicrophone(tmp_path))
        server = stack.enter_context(pulseaudio(tmp_path))
        hearing = stack.enter_context(ear(microphone.environment | pulse_environment(tmp_path)))
        microphone.feed(loud(60 * SAMPLE_RATE, 8_192))
        for device in (DEVICE, "pulse"):
            hearing.open(device)
        hearing.wait_for(lambda heard: len(heard) == 2 and heard[1]["n_samples"] > SAMPLE_RATE)
        server.kill()
        server.wait()
        hearing.wait_for(lambda heard: heard[1]["fault"] != "")
        stack.enter_context(pulseaudio(tmp_path))
        steady, lost = hearing.wait_for(
            lambda heard: heard[1]["fault"] == "" and heard[1]["overruns"] > 0
        )

    assert (steady["overruns"], steady["fault"]) == (0, "")
    assert lost["overruns"] == 1


@pytest.mark.slow
def test_device_that_the_list_lacks_comes_back_at_the_cost_of_one_gap(tmp_path: Path) -> None:
    """A device that was away when the list was made is found again by a restart of all streams.

    The list is made anew while the server is away and nothing else is open; then another device is
    opened, which keeps the list as it is.
    """
    with ExitStack() as stack:
        microphone = stack.enter_context(VirtualMicrophone(tmp_path))
        server = stack.enter_context(pulseaudio(tmp_path))
        hearing = stack.enter_context(ear(microphone.environment | pulse_environment(tmp_path)))
        microphone.feed(loud(90 * SAMPLE_RATE, 8_192))
        hearing.open("pulse")
        hearing.wait_for(lambda heard: len(heard) == 1 and heard[0]["n_samples"] > SAMPLE_RATE)
        server.kill()
        server.wait()
        hearing.wait_for(lambda heard: "is not there" in heard[0]["fault"])
        hearing.open(DEVICE)
        hearing.wait_for(lambda heard: len(heard) == 2 and heard[1]["n_samples"] > SAMPLE_RATE)
        stack.enter_context(pulseaudio(tmp_path))
        began_s = time.monotonic()
        lost, steady = hearing.wait_for(
            lambda heard: heard[0]["fault"] == "" and heard[0]["overruns"] > 0
        )
        recovered_s = time.monotonic() - began_s
        position = steady["position"]
        _, steady = hearing.wait_for(
            lambda heard: heard[1]["position"] > position + 3 * SAMPLE_RATE
        )

    print(f"back {recovered_s:.1f} s after the server")
    assert lost["overruns"] == 1
    assert (steady["overruns"], steady["fault"], steady["level"]) == (1, "", 0.25)
