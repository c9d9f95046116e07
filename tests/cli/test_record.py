"""``edgeasd record`` as a user meets it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.detect.models import normal_sound
from tests.on_terminal import OnTerminal
from tests.publish.brokers import wait_until

RATE = 16_000
SIMULATOR = "[machine.simulator]\npaced = false"


def configure(folder: Path, source: str) -> Path:
    """Write a configuration of the machine ``fan``."""
    path = folder / "edgeasd.toml"
    path.write_text(f'[[machine]]\nname = "fan"\nmodel = "none-yet.onnx"\n{source}\n')
    return path


def command(config: Path, *arguments: str) -> list[str]:
    """The command line that records ``fan``."""
    return [sys.executable, "-m", "edgeasd", "record", "fan", "--config", str(config), *arguments]


def record(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Record ``fan`` in the folder of the configuration."""
    return subprocess.run(
        command(config, *arguments),
        cwd=config.parent,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def clips(folder: Path) -> list[str]:
    """The names of the clips of ``fan``, without the time."""
    return sorted(path.stem[:35] for path in (folder / "fan" / "train").glob("[!.]*"))


def test_record_called_again_continues(tmp_path: Path) -> None:
    """What is there counts; with enough of it nothing is added."""
    soundfile.write(tmp_path / "sound.wav", normal_sound(40 * RATE, 5), RATE)
    config = configure(tmp_path, '[machine.file]\npath = "sound.wav"\npaced = false')

    first = record(config, "--duration", "20s")
    second = record(config, "--duration", "45s")
    third = record(config, "--duration", "45s")

    assert [result.returncode for result in (first, second, third)] == [0, 0, 0], second.stderr
    assert clips(tmp_path) == [f"section_00_source_train_normal_{n:04d}" for n in range(5)]
    assert "fan: 2 clips added" in first.stderr
    assert "fan: 2 of 5 clips, left out 0, 0:00:30 left" in second.stderr
    assert "fan: 0 clips added; 5 of 5 (0:00:50) in fan" in third.stderr


def test_record_of_a_file_leaves_out_what_is_flat_and_clipped(tmp_path: Path) -> None:
    """Two of five clips of a recording are spoilt; each is told with its reason and logged."""
    sound = normal_sound(55 * RATE, 5)
    sound[12 * RATE : 15 * RATE] = 0.0
    sound[32 * RATE : 35 * RATE : 3] = 1.0
    soundfile.write(tmp_path / "sound.wav", sound, RATE, subtype="PCM_16")
    config = configure(tmp_path, '[machine.file]\npath = "sound.wav"\npaced = false')

    result = record(config, "--duration", "1m", "--section", "07", "--domain", "target")

    assert result.returncode == 0, result.stderr
    assert clips(tmp_path) == [f"section_07_target_train_normal_{n:04d}" for n in range(3)]
    left_out = [line for line in result.stderr.splitlines() if "left out 10.0 s from" in line]
    assert [line.rpartition(" ")[2] for line in left_out] == ["flat_signal", "clipping"]
    assert "left out 2 (flat_signal 1, clipping 1), 0:00:20 in all" in result.stderr
    assert "fan: run the same command to continue" in result.stderr
    with (tmp_path / "fan" / "recording.csv").open() as log:
        assert [row["left_out"] for row in csv.DictReader(log)] == [
            *("", "flat_signal", "", "clipping", "")
        ]


def test_record_of_what_is_never_fit_gives_up(tmp_path: Path) -> None:
    """After ten minutes of nothing but silence the command ends, and says how to look."""
    soundfile.write(tmp_path / "sound.wav", np.zeros(700 * 8_000), 8_000, subtype="PCM_16")
    config = configure(tmp_path, '[machine.file]\npath = "sound.wav"\npaced = false')

    result = record(config, "--duration", "2h")

    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr.splitlines()[-1] == (
        "edgeasd: no usable sound in 10 min (flat_signal); see 'edgeasd listen fan', "
        "then run the same command to continue"
    )
    assert "left out 60 (flat_signal 60)" in result.stderr


def test_record_interrupted_keeps_every_clip(tmp_path: Path) -> None:
    """Ctrl-C ends it in order: whole clips only, and a summary."""
    config = configure(tmp_path, SIMULATOR)
    with subprocess.Popen(
        # For more than the disk has room for, it would not begin.
        command(config, "--duration", "4h", "--out", str(tmp_path / "fan")),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until((tmp_path / "fan" / "train").exists, "the folder")
        wait_until(lambda: len(clips(tmp_path)) > 2, "three clips")
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=60.0)

    assert process.returncode == 0, log
    assert f"fan: {len(clips(tmp_path))} clips added" in log
    paths = list((tmp_path / "fan" / "train").iterdir())
    assert {soundfile.info(path).frames for path in paths} == {10 * RATE}


@pytest.mark.parametrize("size", [(24, 80), (12, 40)])
def test_record_on_a_terminal_shows_a_bar_that_goes_in_the_end(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """It has the time left, fits a small terminal, and leaves room for the summary."""
    config = configure(tmp_path, "[machine.simulator]")
    arguments = ("--config", config, "--duration", "1h", "--out", tmp_path / "fan")

    with OnTerminal("record", "fan", *arguments, size=size) as record:
        record.wait_for("0:59:5")
        drawn = [line for line in record.shown if line]
        code = record.interrupt()

    assert code == 0
    assert drawn[0] == "fan: 0 of 360 clips, left out 0"
    assert drawn[1].endswith(" left")
    assert record.shown[0].startswith("fan: 0 clips added; 0 of 360 (0:00:00)")
    assert record.shown[-2:] == ["fan: run the same command to continue", ""]


def test_record_on_a_terminal_leaves_its_messages_above_the_bar(tmp_path: Path) -> None:
    """What is told meanwhile is neither drawn over nor mixed with the bar."""
    sound = normal_sound(35 * RATE, 5)
    sound[12 * RATE : 15 * RATE] = 0.0
    soundfile.write(tmp_path / "sound.wav", sound, RATE, subtype="PCM_16")
    config = configure(tmp_path, '[machine.file]\npath = "sound.wav"\npaced = false')
    arguments = ("--config", config, "--duration", "1m", "--out", tmp_path / "f")

    with OnTerminal("record", "fan", *arguments, size=(24, 200)) as record:
        assert record.end() == 0
        lines = record.shown

    assert "\x1b[?25l" in record.written
    assert lines[0].startswith("fan: left out 10.0 s from ")
    assert lines[1].startswith("fan: 2 clips added, ")
    assert lines[2].startswith("fan: left out 1 (flat_signal 1), 0:00:10 in all; the times are in ")
    assert lines[3:] == ["fan: run the same command to continue", ""]


@pytest.mark.audio_device
@pytest.mark.slow
def test_record_of_a_microphone_is_what_it_heard(tmp_path: Path) -> None:
    """Through the real ALSA and PortAudio, the clip holds the very samples."""
    directory = tmp_path / "microphone"
    directory.mkdir()
    sound = (normal_sound(11 * RATE, 9) * 32_768).astype(np.int16)
    config = configure(tmp_path, f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = 16000')
    with VirtualMicrophone(directory) as microphone:
        microphone.feed(sound)
        result = subprocess.run(
            command(config, "--duration", "10s", "--out", str(tmp_path / "fan")),
            env={**os.environ, **microphone.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert result.returncode == 0, result.stderr
    (path,) = (tmp_path / "fan" / "train").iterdir()
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    assert np.array_equal(samples, sound[: 10 * RATE])


@pytest.mark.audio_device
@pytest.mark.slow
def test_record_of_a_microphone_that_stood_still_leaves_the_gap_out(tmp_path: Path) -> None:
    """What was heard before the gap is left out with its time; the clip after it is whole."""
    directory = tmp_path / "microphone"
    directory.mkdir()
    sound = (normal_sound(20 * RATE, 9) * 32_768).astype(np.int16)
    config = configure(tmp_path, f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = 16000')
    with VirtualMicrophone(directory) as microphone:
        microphone.feed(sound)
        with subprocess.Popen(
            command(config, "--duration", "10s", "--out", str(tmp_path / "fan")),
            env={**os.environ, **microphone.environment},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            wait_until(lambda: microphone.n_written > 3 * RATE, "three seconds of sound")
            microphone.pause()
            paused = microphone.n_written
            time.sleep(4.0)
            microphone.resume()
            _, log = process.communicate(timeout=60)

    assert process.returncode == 0, log
    (path,) = (tmp_path / "fan" / "train").iterdir()
    samples, _ = soundfile.read(path, dtype="int16")
    with (tmp_path / "fan" / "recording.csv").open() as file:
        gap, clip = csv.DictReader(file)
    assert (gap["left_out"], clip["left_out"]) == ("gap", "")
    assert float(gap["duration_s"]) == pytest.approx(paused / RATE, abs=0.2)
    assert 3.5 < float(gap["lost_s"]) < 6.0
    start = round(float(gap["duration_s"]) * RATE)
    offsets = [
        offset
        for offset in range(start, start + RATE, 512)
        if np.array_equal(sound[offset : offset + 10 * RATE], samples)
    ]
    assert len(offsets) == 1
    print(f"left out {gap['duration_s']} s before a gap of {gap['lost_s']} s")
