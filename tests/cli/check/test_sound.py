"""The report on a machine's sound, through real files and a real microphone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.cli.check.report import CheckReport
from edgeasd.cli.check.sound import check_sounds
from edgeasd.common.config.keys import FileConfig, MachineConfig, MicrophoneConfig
from edgeasd.common.types import Float32Array
from edgeasd.detect.features import FeatureSpec
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.detect.models import make_model, normal_sound

RATE = 16_000


def report_on(folder: Path, sound: Float32Array) -> CheckReport:
    """The report on a recording."""
    soundfile.write(folder / "sound.wav", sound, RATE, subtype="PCM_16")
    source = FileConfig(folder / "sound.wav", paced=False)
    (report,) = check_sounds(
        [MachineConfig("m", folder / "m.onnx", source=source)], in_service=False
    )
    return report


def test_sound_that_is_good_has_its_figures(tmp_path: Path) -> None:
    """Rate, level and noise floor are told."""
    report = report_on(tmp_path, normal_sound(3 * RATE, 1))

    assert (report.subject, report.grade) == ("m: sound", "ok")
    assert report.text.startswith("16000 Hz, -")
    assert report.text.endswith(" dBFS, 2 s")


@pytest.mark.parametrize(
    ("gain", "said"),
    [(1e-3, "quiet"), (1e-9, "flat_signal"), (100.0, "clipping")],
)
def test_sound_of_the_wrong_level_is_warned_of(tmp_path: Path, gain: float, said: str) -> None:
    """The daemon works with it, but not well."""
    report = report_on(tmp_path, np.clip(gain * normal_sound(3 * RATE, 1), -1, 1))

    assert report.grade == "warning"
    assert f"; {said}: " in report.text


def test_sound_that_cannot_hold_what_the_model_listens_to_is_warned_of(tmp_path: Path) -> None:
    """By the model that is there; without one, by what is learned here."""
    features = FeatureSpec(sample_rate=32_000, n_fft=2_048, hop_length=1_024, fmax=12_000.0)
    model = make_model(tmp_path / "wide.onnx", features=features)

    without = report_on(tmp_path, normal_sound(3 * RATE, 1))
    source = FileConfig(tmp_path / "sound.wav", paced=False)
    (report,) = check_sounds([MachineConfig("m", model, source=source)], in_service=False)

    assert without.grade == "ok"
    assert report.grade == "warning"
    assert report.text.endswith(
        "; 16000 Hz holds nothing above 8 kHz, the model listens up to 12 kHz; use a source of "
        "24000 Hz or more"
    )


def test_sound_of_a_microphone_that_a_running_service_has_is_no_failure() -> None:
    """What the service took for itself cannot be opened again, and that is well."""
    machine = MachineConfig("m", Path("m.onnx"), source=MicrophoneConfig(device="none such"))

    (free,) = check_sounds([machine], in_service=False)
    (taken,) = check_sounds([machine], in_service=True)

    assert (free.grade, free.exit_code) == ("failure", os.EX_UNAVAILABLE)
    assert taken.grade == "warning"
    assert taken.text.startswith("not checked, as the service may be using it (")


@pytest.mark.audio_device
@pytest.mark.slow
def test_check_of_a_microphone_listens_for_ten_seconds(tmp_path: Path) -> None:
    """Through the real ALSA and PortAudio, the machine's microphone is found stable."""
    make_model(tmp_path / "tiny.onnx")
    (tmp_path / "microphone").mkdir()
    (tmp_path / "edgeasd.toml").write_text(
        'state_dir = "state"\n[[machine]]\nname = "fan"\nmodel = "tiny.onnx"\n'
        f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}\n'
    )
    command = [sys.executable, "-m", "edgeasd", "check", "--json"]
    with VirtualMicrophone(tmp_path / "microphone") as microphone:
        microphone.feed((normal_sound(12 * RATE, 9) * 32_768).astype(np.int16))
        result = subprocess.run(
            [*command, "--config", str(tmp_path / "edgeasd.toml")],
            env={**os.environ, **microphone.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    reports = {row["subject"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert reports["fan: sound"]["grade"] == "ok", reports["fan: sound"]
    assert reports["fan: sound"]["text"].endswith(" dBFS, 10 s")
    print(reports["fan: sound"]["text"])
