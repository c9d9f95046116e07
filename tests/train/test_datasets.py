from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edgeasd.errors import EdgeasdError
from train.datasets import Clip, read_dcase2021, section_names


def test_read_dcase2021_file_names_give_clips(tmp_path: Path) -> None:
    """Place and name of a file say all about a clip; the folder names the machine type."""
    names = (
        "train/section_00_source_train_normal_0000_strength_1_ambient.wav",
        "train/section_01_target_train_normal_0001.flac",
        "source_test/section_00_source_test_anomaly_0002_vel_6.WAV",
        "target_test/section_00_target_test_normal_0003_.wav",
    )
    folder = _touch(tmp_path / "fan", *names)

    clips = read_dcase2021(folder)

    assert clips == [
        Clip(folder / names[0], "fan", "00", "source", "train", "normal", "strength_1_ambient"),
        Clip(folder / names[1], "fan", "01", "target", "train", "normal", ""),
        Clip(folder / names[2], "fan", "00", "source", "test", "anomaly", "vel_6"),
        Clip(folder / names[3], "fan", "00", "target", "test", "normal", ""),
    ]
    assert section_names(clips) == ["00", "01"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("train/notes.txt", "the name must end in .wav or .flac"),
        (
            "train/section_0_source_train_normal_0000.wav",
            (
                "the name must be section_<NN>_<source|target>_<train|test>_<normal|anomaly>"
                "_<NNNN>, then optional _<attributes>"
            ),
        ),
        (
            "source_test/section_00_target_test_normal_0000.wav",
            "the name says target_test/ and the folder is source_test/",
        ),
        ("train/section_00_source_train_anomaly_0000.wav", "training clips must be normal"),
    ],
)
def test_read_dcase2021_other_file_is_listed_with_reason(
    name: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that does not parse is named with its reason, and the rest is read."""
    good = "train/section_00_source_train_normal_0000.wav"
    folder = _touch(tmp_path / "fan", good, name)

    with caplog.at_level(logging.WARNING):
        clips = read_dcase2021(folder)

    assert [clip.path for clip in clips] == [folder / good]
    assert caplog.messages == [f"{folder / name}: left out: {reason}"]


def test_read_dcase2021_without_clips_says_what_is_expected(tmp_path: Path) -> None:
    """An empty folder is an error that shows the layout."""
    with pytest.raises(EdgeasdError) as error:
        read_dcase2021(tmp_path)

    assert str(error.value) == (
        f"{tmp_path}: holds no clips; expected is the folder of one machine type with "
        "train/section_00_source_train_normal_0000_<attributes>.wav, and for evaluation "
        "source_test/ and target_test/"
    )


def test_read_dcase2021_folder_above_names_machine_types(tmp_path: Path) -> None:
    """Who gives the folder above is told which folders may be meant."""
    for machine_type in ("fan", "pump"):
        _touch(tmp_path / machine_type, "train/section_00_source_train_normal_0000.wav")

    with pytest.raises(EdgeasdError, match=r"; one of its folders fan, pump may be meant$"):
        read_dcase2021(tmp_path)


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder
