"""What ``edgeasd record`` leaves is what the trainer reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.common.files.whole_file import draft_of
from train.data.datasets import read_clips


def test_recorded_folder_is_read_whole_and_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each clip is a normal training clip of its section and domain; nothing is left out."""
    config = tmp_path / "edgeasd.toml"
    config.write_text(
        '[[machine]]\nname = "fan"\nmodel = "x.onnx"\n'
        '[machine.file]\npath = "sound.flac"\npaced = false\n'
    )
    sound = 0.1 * np.random.default_rng(1).standard_normal(21 * 44_100).clip(-5, 5)
    soundfile.write(tmp_path / "sound.flac", sound, 44_100)
    for section, domain in (("00", "source"), ("00", "target"), ("01", "source")):
        subprocess.run(
            [
                *(sys.executable, "-m", "edgeasd", "record", "fan", "--config", str(config)),
                *("--duration", "20s", "--out", str(tmp_path / "fan")),
                *("--section", section, "--domain", domain),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    draft_of(tmp_path / "fan" / "train" / "half.flac").write_bytes(b"what a power cut left")

    dataset = read_clips(tmp_path / "fan")

    assert dataset.left_out == []
    assert caplog.records == []
    assert [(clip.section, clip.domain) for clip in dataset.clips] == [
        *[("00", "source")] * 2,
        *[("00", "target")] * 2,
        *[("01", "source")] * 2,
    ]
    assert {(c.machine_type, c.split, c.label) for c in dataset.clips} == {
        ("fan", "train", "normal")
    }
    assert {read_clip(clip.path).size for clip in dataset.clips} == {160_000}
