"""``edgeasd listen`` as a user meets it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from edgeasd.capture.simulator.simulator import Simulator
from edgeasd.cli.listen.level_meter import Channel, meters
from edgeasd.cli.main import main
from edgeasd.common.config.keys import SimulatorConfig
from edgeasd.common.types import AudioBlock
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.on_terminal import OnTerminal

RATE = 16_000


def test_listen_into_a_pipe_prints_json_lines_and_a_verdict(tmp_path: Path) -> None:
    """Each line is JSON; the last one has the verdict."""
    times = np.arange(round(1.5 * RATE)) / RATE
    soundfile.write(tmp_path / "tone.wav", 0.1 * np.sin(2 * np.pi * 1000 * times), RATE)
    config = tmp_path / "edgeasd.toml"
    config.write_text(
        '[[machine]]\nname = "fan"\nmodel = "x.onnx"\n[machine.file]\npath = "tone.wav"\n'
    )

    result = subprocess.run(
        [sys.executable, "-m", "edgeasd", "listen", "fan", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (result.returncode, result.stderr) == (0, "")
    *lines, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert last == {
        "channel": 0,
        "sample_rate": RATE,
        "rms_dbfs": -23.01,
        "peak_dbfs": -20.0,
        "floor_dbfs": -23.01,
        "clipped": 0,
        "gaps": 0,
        "fault": "",
        "verdict": "good",
    }
    assert "verdict" not in lines[0]


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (1.0, ""),
        (0.0, "flat_signal: the sound has no signal at all; is the microphone connected?; "),
    ],
)
def test_listen_tells_what_the_rate_cannot_hold(tmp_path: Path, gain: float, verdict: str) -> None:
    """Good sound of a telephone headset is not good for the model; nor is anything else of it."""
    noise = np.random.default_rng(1).normal(0.0, 0.05, 8_000)
    soundfile.write(tmp_path / "phone.wav", gain * noise, 8_000)
    config = tmp_path / "edgeasd.toml"
    config.write_text(
        '[[machine]]\nname = "fan"\nmodel = "x.onnx"\n[machine.file]\npath = "phone.wav"\n'
        "paced = false\n"
    )

    result = CliRunner().invoke(main, ["listen", "fan", "--config", str(config)])

    assert json.loads(result.stdout.splitlines()[-1])["verdict"] == (
        f"{verdict}8000 Hz holds nothing above 4 kHz, the model listens up to 8 kHz; use a source "
        "of 16000 Hz or more"
    )


@pytest.mark.audio_device
@pytest.mark.parametrize(
    ("gain", "shown", "verdict"),
    [
        (0.01, "\x1b[32mchannel 0 |###", "good"),
        (
            1.0,
            "\x1b[31mchannel 0 |####################################",
            "clipping: the sound is clipped; turn down the gain of the microphone",
        ),
    ],
    ids=["good", "clipping"],
)
def test_listen_on_a_terminal_shows_a_meter_until_ctrl_c(
    tmp_path: Path, gain: float, shown: str, verdict: str
) -> None:
    """The bars of a real microphone have the colour of its verdict, which Ctrl-C ends with."""
    config = tmp_path / "edgeasd.toml"
    # At another rate the test's microphone puts in samples of no meaning, some of them loud.
    config.write_text(
        '[[machine]]\nname = "fan"\nmodel = "x.onnx"\n'
        f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}\n'
    )
    noise = np.random.default_rng(1).uniform(-60_000.0, 60_000.0, 60 * RATE)
    with VirtualMicrophone(tmp_path) as microphone:
        microphone.feed((gain * noise).clip(-32_768, 32_767).astype(np.int16))
        with OnTerminal(
            "listen", "fan", "--config", config, environment=microphone.environment
        ) as listen:
            listen.wait_for(shown)
            assert listen.interrupt() == 0

    assert listen.written.endswith(f"channel 0: {verdict}\r\n")


@pytest.mark.audio_device
def test_listen_to_a_channel_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    """The message names the channels of the device."""
    with VirtualMicrophone(tmp_path) as microphone:
        result = subprocess.run(
            [sys.executable, "-m", "edgeasd", "listen", "--device", DEVICE, "--channel", "999"],
            env={**os.environ, **microphone.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr.splitlines()[-1].startswith(
        "edgeasd: microphone.channel=999 must be from 0 to "
    )


@pytest.mark.parametrize("width", [30, 40, 80, 200])
def test_meter_fits_the_terminal_and_shows_what_was_heard(width: int) -> None:
    """RMS, peak and hold are in the bar of every width, beyond the scale and of no sound too."""
    for gain_db in (-math.inf, -100.0, -40.0, 0.0, 6.0):
        source = Simulator(SimulatorConfig(paced=False))
        channel = Channel(3, source)
        channel.meter.process(AudioBlock(np.full(RATE, 10 ** (gain_db / 20), np.float32), 0))

        scale, levels, _ = (text.plain for text in meters([channel], width))

        bar = levels.partition("|")[2].partition("| rms")[0]
        n_bar = {30: 4, 40: 4, 80: 40, 200: 40}[width]
        assert len(bar) == n_bar
        assert levels.startswith("channel 3 |")
        assert scale.startswith(" " * 10 + "-80 ")
        assert len(bar.rstrip()) == {-40.0: n_bar // 2, 0.0: n_bar, 6.0: n_bar}.get(gain_db, 0)
