"""What the commands say when they are used wrongly: one line, with what to do."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.commands import edgeasd
from tests.publish.brokers import free_port

USAGE = 2
TEXT = """
[mqtt]
port = {port}
[[machine]]
name = "press07"
model = "press07.onnx"
[machine.file]
path = "sound.wav"
[[machine]]
name = "fan"
model = "fan.onnx"
section = "hall"
[machine.file]
path = "gone.wav"
[[machine]]
name = "saw"
model = "saw.onnx"
[machine.microphone]
device = "none such"
"""
NO_MICROPHONE = (
    "no microphone is there; connect one",
    "microphone.device='none such' is not there; there are: ",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are not what they should be."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "good.toml").write_text(TEXT.format(port=free_port()))
    (folder / "latin1.toml").write_bytes("# Gerät".encode("latin-1"))
    soundfile.write(folder / "sound.wav", np.zeros(8_000), 8_000)
    (folder / "a-file").touch()
    (folder / "a-folder").mkdir()
    (folder / "listed").mkdir()
    (folder / "listed" / "manifest.csv").touch()
    return folder


SAID = [
    # Machines
    (
        "record pres07 --config good.toml --duration 1h",
        os.EX_CONFIG,
        "machine='pres07' must be one of press07, fan, saw; did you mean 'press07'?",
    ),
    (
        "listen lathe --config good.toml",
        os.EX_CONFIG,
        "machine='lathe' must be one of press07, fan, saw",
    ),
    # Configuration
    (
        "record press07 --config none.toml --duration 1h",
        os.EX_CONFIG,
        "none.toml: cannot be read (No such file or directory); "
        "see deploy/edgeasd.example.toml for one to start from",
    ),
    (
        "watch --config a-folder",
        os.EX_CONFIG,
        "a-folder: cannot be read (Is a directory); "
        "see deploy/edgeasd.example.toml for one to start from",
    ),
    (
        "listen fan --config latin1.toml",
        os.EX_CONFIG,
        "latin1.toml: is not UTF-8 text (invalid continuation byte at byte 5)",
    ),
    # Sound
    ("listen --device 'none such'", os.EX_UNAVAILABLE, NO_MICROPHONE),
    ("record saw --config good.toml --duration 1h", os.EX_UNAVAILABLE, NO_MICROPHONE),
    (
        "listen fan --config good.toml",
        os.EX_NOINPUT,
        "gone.wav: does not exist; check the path",
    ),
    # Where recordings go
    (
        "record press07 --config good.toml --duration 1h --out a-file",
        os.EX_CANTCREAT,
        "a-file: must be a folder that this user can write (Not a directory); "
        "choose another folder with --out",
    ),
    (
        "record press07 --config good.toml --duration 1h --out listed",
        os.EX_CANTCREAT,
        "listed: holds a manifest.csv, so the trainer would ignore these recordings; "
        "choose another folder with --out",
    ),
    (
        "record fan --config good.toml --duration 1h",
        os.EX_CONFIG,
        "section='hall' must be two digits, for example 00",
    ),
    (
        "record press07 --config good.toml --duration 99999h",
        os.EX_CANTCREAT,
        "press07: 35999640 more clips need 5760010 MB on this disk, and ",
    ),
    # Broker
    (
        "watch --config good.toml",
        os.EX_UNAVAILABLE,
        "connection refused at localhost:",
    ),
    (
        "watch --host no-such-broker.invalid",
        os.EX_UNAVAILABLE,
        "host name 'no-such-broker.invalid' does not resolve; check mqtt.host and the network",
    ),
    ("watch --host b --port 0", os.EX_CONFIG, "mqtt.port=0 must be from 1 to 65535"),
    (
        "watch --host localhost --ca-file none.pem",
        os.EX_CONFIG,
        "mqtt.ca_file=none.pem must be a PEM file of certificates (No such file or directory)",
    ),
    # Options
    ("watch --port 1883", USAGE, "--port needs --host"),
    (
        "listen fan --device USB",
        USAGE,
        "MACHINE names a microphone already; leave --device and --channel out",
    ),
    (
        "record fan --duration 2x",
        USAGE,
        "Invalid value for '--duration': '2x' must be a duration such as 90s, 30m, 2h or 1h30m",
    ),
    ("record fan", USAGE, "Missing option '--duration'."),
    (
        "calibrate fan sound.wav --false-alarms-per-week nan",
        USAGE,
        "Invalid value for '--false-alarms-per-week': nan must be a finite number",
    ),
    (
        "calibrate fan sound.wav --config good.toml --duration 1h",
        USAGE,
        "--duration is for live sound; leave out either it or the files",
    ),
    (
        "calibrate fan sound.wav --config good.toml --undo",
        USAGE,
        "--undo removes the newest version; give nothing else with it",
    ),
    (
        "score --model fan.onnx --channel=-1 sound.wav",
        USAGE,
        "Invalid value for '--channel': -1 is not in the range x>=0.",
    ),
    (
        "record fan --duration 0s",
        USAGE,
        "Invalid value for '--duration': '0s' must be a duration such as 90s, 30m, 2h or 1h30m",
    ),
]


@pytest.mark.parametrize(("line", "exit_code", "said"), SAID, ids=[line for line, *_ in SAID])
def test_wrong_use_is_told_in_one_line(
    folder: Path, line: str, exit_code: int, said: str | tuple[str, ...]
) -> None:
    """The last line says what is wrong and what to do; the exit code says whose fault it is."""
    before = sorted(folder.rglob("*"))

    result = edgeasd(*shlex.split(line), cwd=folder)

    assert result.returncode == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.removeprefix("edgeasd: ").removeprefix("Error: ").startswith(said), last
    assert result.stdout == ""
    assert sorted(folder.rglob("*")) == before
