"""Capture through the real PortAudio, from a microphone that hears what the test feeds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.capture.recording import recording
from tests.capture.virtual_microphone import BLOCK, DEVICE, SAMPLE_RATE, VirtualMicrophone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeasd.common.types import Int16Array

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.audio_device


def noise(n_samples: int) -> Int16Array:
    """Return 16-bit noise, the same every time."""
    return np.random.default_rng(3).integers(-32_768, 32_768, n_samples).astype(np.int16)


@pytest.fixture
def microphone(tmp_path: Path) -> Iterator[VirtualMicrophone]:
    """Return a microphone that is silent until it is fed."""
    with VirtualMicrophone(tmp_path) as microphone:
        yield microphone


def run(code: str, microphone: VirtualMicrophone) -> str:
    """Return what the Python program *code* prints, with *microphone* at the computer."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | microphone.environment,
        stdout=subprocess.PIPE,
        timeout=60.0,
        check=True,
        text=True,
    )
    return done.stdout


def test_capture_is_exact_from_the_first_sample_and_in_real_time(
    microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    """Every sample fed arrives once and unchanged, within a tenth of a second of the feeding."""
    samples = noise(3 * SAMPLE_RATE)
    path = tmp_path / "captured"
    n_samples = 2 * SAMPLE_RATE

    microphone.feed(samples)
    with recording(DEVICE, microphone.environment, n_samples, path) as captured:
        blocks = captured.finish()

    actual = np.fromfile(path, np.int16)
    fed_at_s = dict(microphone.writes)
    ends = [block["first_sample"] + block["n_samples"] for block in blocks]
    lags_s = [
        block["time_s"] - fed_at_s[end]
        for block, end in zip(blocks, ends, strict=True)
        if end in fed_at_s
    ]
    assert np.array_equal(actual, samples[: actual.size])
    assert [block["first_sample"] for block in blocks] == [0, *ends[:-1]]
    assert blocks[-1]["overruns"] == 0
    assert {block["fault"] for block in blocks} == {""}
    # The first blocks waited in the pipe while the process started.
    steady_s = np.array(lags_s[8:])
    print(f"lag: median {np.median(steady_s) * 1e3:.1f} ms, longest {steady_s.max() * 1e3:.1f} ms")
    assert np.median(steady_s) < 0.1


def test_capture_of_a_stuck_device_says_so_and_recovers_with_a_gap(
    microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    """Sound that stays out is a fault; sound that comes back is after a gap as long as that."""
    samples = noise(10 * SAMPLE_RATE)
    path = tmp_path / "captured"

    microphone.feed(samples)
    with recording(DEVICE, microphone.environment, 2 * SAMPLE_RATE, path) as captured:
        captured.wait_for(lambda line: line.get("first_sample", 0) > SAMPLE_RATE)
        microphone.pause()
        captured.wait_for(lambda line: bool(line["fault"]))
        microphone.resume()
        blocks = captured.finish()

    positions = np.array([(block["first_sample"], block["n_samples"]) for block in blocks])
    jumps = positions[1:, 0] - positions[:-1].sum(axis=1)
    before = int(np.flatnonzero(jumps)[0])
    silent_s = blocks[before + 1]["time_s"] - blocks[before]["time_s"]
    actual = np.fromfile(path, np.int16)
    faults = {line["fault"] for line in captured.lines}
    assert faults == {"", "microphone 'vmic' is open but gives no sound; reconnect it"}
    assert np.count_nonzero(jumps) == 1
    assert jumps[before] / SAMPLE_RATE == pytest.approx(silent_s, abs=0.2)
    assert (blocks[-1]["overruns"], blocks[-1]["fault"]) == (1, "")
    # What came first after the silence might have been late, and was dropped: up to 3 blocks.
    n_before = int(positions[: before + 1, 1].sum())
    after = actual[n_before:]
    n_dropped = int(np.flatnonzero(samples[n_before:] == after[0])[0])
    continued = samples[n_before + n_dropped :][: after.size]
    assert n_dropped in (BLOCK, 2 * BLOCK, 3 * BLOCK)
    assert np.array_equal(actual[:n_before], samples[:n_before])
    assert np.array_equal(after, continued)


def test_close_of_a_stuck_device_returns(microphone: VirtualMicrophone) -> None:
    """A device that hangs does not hang the program that lets go of it."""
    code = """
import os, time
from edgeasd.capture.source import open_source
from edgeasd.common.config.keys import MicrophoneConfig
source = open_source(MicrophoneConfig(device="vmic", sample_rate=16_000))
assert source.read(30.0) is not None
while source.read(0.5) is not None:
    pass
start_s = time.monotonic()
source.close()
print(time.monotonic() - start_s, source.read(5.0), flush=True)
os._exit(0)
"""

    microphone.feed(noise(20 * BLOCK))
    closed_in_s, read_after = run(code, microphone).split()

    assert 1.9 < float(closed_in_s) < 30.0
    assert read_after == "None"


def test_list_devices_names_the_microphone(microphone: VirtualMicrophone) -> None:
    """The list gives what PortAudio knows of each input."""
    code = """
from edgeasd.capture.microphone.portaudio import list_devices
print(list_devices())
"""

    printed = run(code, microphone)

    assert printed == (
        "[InputDevice(index=0, name='vmic', host_api='ALSA', n_channels=128, "
        "sample_rate=44100, is_default=True, usb_path='', usb_id='')]\n"
    )


def test_devices_says_what_to_configure_and_how_loud_it_is(microphone: VirtualMicrophone) -> None:
    """Each line has the name to write into the configuration, and the level."""
    microphone.feed(noise(20 * SAMPLE_RATE))

    done = subprocess.run(
        [sys.executable, "-m", "edgeasd", "devices"],
        cwd=ROOT,
        env=os.environ | microphone.environment,
        stdout=subprocess.PIPE,
        timeout=60.0,
        check=True,
    )

    found = json.loads(done.stdout)
    assert found["device"] == "vmic"
    # White noise has -4.8 dBFS; at the 44.1 kHz that ALSA claims zeros come in between.
    assert -12.0 < found["level_dbfs"] < -4.0


def test_open_source_unknown_device_lists_those_that_exist(microphone: VirtualMicrophone) -> None:
    """Who installs the microphone sees at once which there are."""
    code = """
from edgeasd.capture.source import open_source
from edgeasd.common.config.keys import MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError
try:
    open_source(MicrophoneConfig(device="Rode"))
except AudioDeviceError as exc:
    print(exc)
"""

    printed = run(code, microphone)

    assert printed == "microphone.device='Rode' is not there; there are: vmic, ALSA\n"


def test_refresh_leaves_an_open_stream_alone(microphone: VirtualMicrophone) -> None:
    """The library is initialised anew only while no stream is open; a stream reads on."""
    code = """
import sounddevice
from edgeasd.capture.microphone.portaudio import InputStream, refresh
from edgeasd.common.config.keys import MicrophoneConfig
calls = []
initialize = sounddevice._initialize
sounddevice._initialize = lambda: (calls.append(1), initialize())
stream = InputStream(MicrophoneConfig(device="vmic"), 16_000)
first, _ = stream.read()
refresh()
second, _ = stream.read()
print(len(calls), first[:, 0].tolist() + second[:, 0].tolist())
stream.close()
refresh()
print(len(calls))
"""
    samples = noise(400 * BLOCK)

    microphone.feed(samples)
    printed = run(code, microphone).splitlines()

    assert printed == [f"0 {samples[: 2 * BLOCK].tolist()}", "1"]


def test_import_without_portaudio_names_the_package() -> None:
    """Files and the simulator work without PortAudio; a microphone says what to install."""
    code = """
import ctypes.util
ctypes.util.find_library = lambda name: None
from edgeasd.capture.source import open_source
from edgeasd.common.config.keys import MicrophoneConfig, SimulatorConfig
from edgeasd.common.errors import AudioDeviceError
assert open_source(SimulatorConfig(paced=False)).read(0.0) is not None
try:
    open_source(MicrophoneConfig())
except AudioDeviceError as exc:
    print(exc)
"""

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True
    )

    assert done.stdout == (
        "the audio library PortAudio is missing; install the package libportaudio2\n"
    )
