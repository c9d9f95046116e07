from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.errors import EdgeasdError
from train.data.clips import Clip, LeftOut
from train.data.datasets import machine_folders, read_clips, section_names

EXPECTED = (
    "name the folder of one machine type with train/, test/, source_test/, target_test/, "
    "id_<NN>/ or manifest.csv, as described in train/README.md"
)
NAME_RULE = (
    "the name must be section_<NN>_<source|target>_<train|test>_<normal|anomaly>_<NNNN>, "
    "then optional _<attributes>, or <normal|anomaly>_id_<NN>_<NNNNNNNN>"
)
NO_LABEL = (
    "the name has no label; rename it according to the published ground truth, or list it in a "
    "manifest.csv"
)


def test_read_clips_of_dcase2021_name_and_place_say_all(tmp_path: Path) -> None:
    """Place and name of a file say all about a clip; the folder names the machine type."""
    names = (
        "source_test/section_00_source_test_anomaly_0002_vel_6.WAV",
        "target_test/section_00_target_test_normal_0003_.wav",
        "train/section_00_source_train_normal_0000_strength_1_ambient.wav",
        "train/section_01_target_train_normal_0001.flac",
    )
    folder = _write(tmp_path / "fan", *names)

    dataset = read_clips(folder)

    assert dataset.clips == [
        Clip(folder / names[0], "fan", "00", "source", "test", "anomaly", "vel_6"),
        Clip(folder / names[1], "fan", "00", "target", "test", "normal", ""),
        Clip(folder / names[2], "fan", "00", "source", "train", "normal", "strength_1_ambient"),
        Clip(folder / names[3], "fan", "01", "target", "train", "normal", ""),
    ]
    assert dataset.left_out == []
    assert section_names(dataset.clips) == ["00", "01"]


def test_read_clips_of_dcase2023_domain_is_in_the_name(tmp_path: Path) -> None:
    """Both domains lie in test/; attributes are kept, and noAttribute means none."""
    names = (
        "test/section_00_source_test_normal_0000_car_B1_spd_31V_mic_1.flac",
        "test/section_00_target_test_anomaly_0001_noAttribute.wav",
        "train/section_00_source_train_normal_0000_noAttribute.wav",
        "train/section_00_target_train_normal_12345_n_X.wav",
    )
    folder = _write(tmp_path / "ToyCar", *names)

    clips = read_clips(folder).clips

    assert clips == [
        Clip(folder / names[0], "ToyCar", "00", "source", "test", "normal", "car_B1_spd_31V_mic_1"),
        Clip(folder / names[1], "ToyCar", "00", "target", "test", "anomaly", ""),
        Clip(folder / names[2], "ToyCar", "00", "source", "train", "normal", ""),
        Clip(folder / names[3], "ToyCar", "00", "target", "train", "normal", "n_X"),
    ]


def test_read_clips_of_dcase2020_an_id_is_a_section(tmp_path: Path) -> None:
    """The split is the folder, the section is the id, and all is of the source domain."""
    names = (
        "test/anomaly_id_00_00000000.wav",
        "test/normal_id_02_00000000.flac",
        "train/normal_id_02_00000000.wav",
    )
    folder = _write(tmp_path / "slider", *names)

    clips = read_clips(folder).clips

    assert clips == [
        Clip(folder / names[0], "slider", "00", "source", "test", "anomaly"),
        Clip(folder / names[1], "slider", "02", "source", "test", "normal"),
        Clip(folder / names[2], "slider", "02", "source", "train", "normal"),
    ]


@pytest.mark.parametrize(
    ("n_normal", "n_abnormal", "n_tests"),
    [(5, 2, 2), (10, 10, 5), (5, 9, 2), (3, 0, 0), (1, 4, 0), (0, 1, 0)],
)
def test_read_clips_of_mimii_tests_with_the_last_normal_clips(
    n_normal: int, n_abnormal: int, n_tests: int, tmp_path: Path
) -> None:
    """As many normal test clips as abnormal ones, at most half of the normal ones, in each id."""
    names = [f"id_00/normal/{number:08d}.wav" for number in range(n_normal)]
    names += [f"id_00/abnormal/{number:08d}.wav" for number in range(n_abnormal)]
    names += [f"id_06/normal/{number:08d}.wav" for number in range(3)]
    folder = _write(tmp_path / "6_dB_fan" / "fan", *names)

    clips = read_clips(folder).clips

    normal = [clip for clip in clips if (clip.section, clip.label) == ("00", "normal")]
    assert [clip.split for clip in normal] == ["train"] * (n_normal - n_tests) + ["test"] * n_tests
    assert [clip.path.name for clip in normal] == [path[-12:] for path in names[:n_normal]]
    counts = Counter((clip.section, clip.label, clip.split) for clip in clips)
    assert counts["00", "anomaly", "test"] == n_abnormal
    assert counts["06", "normal", "train"] == 3
    assert {(clip.machine_type, clip.domain) for clip in clips} == {("fan", "source")}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("train/notes.txt", "the name must end in .wav or .flac"),
        ("train/section_0_source_train_normal_0000.wav", NAME_RULE),
        (
            "source_test/section_00_target_test_normal_0000.wav",
            "the name says target_test, but the folder is source_test/",
        ),
        (
            "test/section_00_source_train_normal_0000.wav",
            "the name says train, but the folder is test/",
        ),
        ("train/section_00_source_train_anomaly_0000.wav", "training clips must be normal"),
        ("train/anomaly_id_00_00000000.wav", "training clips must be normal"),
        (
            "source_test/normal_id_00_00000000.wav",
            "a name without a domain belongs in train/ or test/",
        ),
        ("test/section_00_0000.wav", NO_LABEL),
        ("test/section_03_test_0000.wav", NO_LABEL),
        ("source_test/section_03_source_test_0000.wav", NO_LABEL),
        ("test/id_01_00000000.wav", NO_LABEL),
        ("id_00/normal/readme", "the name must end in .wav or .flac"),
        (
            "id_00/section_00_source_train_normal_0000.wav",
            (
                "belongs in train/, test/, source_test/, target_test/, id_<NN>/normal/ "
                "or id_<NN>/abnormal/"
            ),
        ),
        (
            "train/section_00_source_train_normal_0000.wav",
            "the same recording is already in the data, perhaps in another format",
        ),
    ],
)
def test_read_clips_other_file_is_listed_with_reason(
    name: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that does not parse is named with its reason, and the rest is read."""
    good = "train/section_00_source_train_normal_0000.flac"
    folder = _write(tmp_path / "fan", good, name)

    dataset = read_clips(folder)

    assert [clip.path for clip in dataset.clips] == [folder / good]
    assert dataset.left_out == [LeftOut(str(folder / name), reason)]
    assert caplog.messages == [f"{folder / name}: left out: {reason}"]


def test_read_clips_folder_of_no_layout_is_listed_once(tmp_path: Path) -> None:
    """A folder that no layout has is one line, however much is in it."""
    names = [f"supplemental/section_00_source_supplemental_{i:04d}.wav" for i in range(3)]
    folder = _write(tmp_path / "fan", "train/normal_id_00_00000000.wav", *names)

    left_out = read_clips(folder).left_out

    assert left_out == [LeftOut(str(folder / "supplemental"), "is a folder of no known layout")]


def test_read_clips_hidden_files_and_attribute_lists_are_no_news(tmp_path: Path) -> None:
    """What every copy of a data set holds beside its recordings is not reported."""
    names = ("attributes_00.csv", ".DS_Store", "train/._normal_id_00_00000000.wav", ".git/config")
    folder = _write(tmp_path / "fan", "train/normal_id_00_00000000.wav", *names)

    dataset = read_clips(folder)

    assert len(dataset.clips) == 1
    assert dataset.left_out == []


def test_read_clips_many_left_out_are_counted_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of each reason ten are logged and the rest counted; the result has them all."""
    names = [f"test/section_00_{number:04d}.wav" for number in range(13)]
    train = "train/section_00_source_train_normal_0000.wav"
    folder = _write(tmp_path / "fan", train, "test/notes.txt", *names)

    left_out = read_clips(folder).left_out

    assert len(left_out) == 14
    assert caplog.messages == [
        f"{folder}/test/notes.txt: left out: the name must end in .wav or .flac",
        *(f"{folder / name}: left out: {NO_LABEL}" for name in names[:10]),
        f"{folder}: left out 3 more for the same reason",
    ]


def test_read_clips_without_clips_says_what_is_expected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder without clips is an error that names the layouts, after what is in it."""
    _write(tmp_path, "sound.wav")

    with pytest.raises(EdgeasdError) as error:
        read_clips(tmp_path)

    assert str(error.value) == f"{tmp_path}: holds no clips; {EXPECTED}"
    assert len(caplog.messages) == 1


def test_read_clips_folder_above_names_machine_types(tmp_path: Path) -> None:
    """Who gives the folder above is told which folders may be meant."""
    _write(tmp_path, "fan/train/normal_id_00_00000000.wav", "0_dB/pump/id_00/normal/00000000.wav")

    with pytest.raises(EdgeasdError, match=r", perhaps one of 0_dB/pump, fan in it$"):
        read_clips(tmp_path)


def test_read_clips_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A wrong path is told as such."""
    with pytest.raises(EdgeasdError) as error:
        read_clips(tmp_path / "fna")

    assert str(error.value) == f"{tmp_path}/fna: cannot be read (No such file or directory)"


def test_read_clips_folder_given_as_a_dot_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine type does not depend on where the reader stands."""
    monkeypatch.chdir(_write(tmp_path / "fan", "train/normal_id_00_00000000.wav"))

    assert read_clips(Path()).clips[0].machine_type == "fan"


def test_machine_folders_are_found_below_a_root(tmp_path: Path) -> None:
    """Folders of every layout are found, also through links, and hidden ones are not."""
    root = tmp_path / "root"
    _write(
        root,
        "dcase2021/fan/train/section_00_source_train_normal_0000.wav",
        "mimii/6_dB_valve/valve/id_00/normal/00000000.wav",
        "ours/manifest.csv",
        "ours/inner/train/normal_id_00_00000000.wav",
        ".trash/fan/train/normal_id_00_00000000.wav",
        "a/b/c/too_deep/train/normal_id_00_00000000.wav",
    )
    elsewhere = _write(tmp_path / "elsewhere", "test/normal_id_00_00000000.wav")
    (root / "slider").symlink_to(elsewhere)

    folders = machine_folders(root)

    names = ["dcase2021/fan", "mimii/6_dB_valve/valve", "ours", "slider"]
    assert folders == [root / name for name in names]
    assert machine_folders(root / "slider") == [root / "slider"]


def test_machine_folders_without_any_say_what_is_expected(tmp_path: Path) -> None:
    """A root without machine types is an error, not an empty table."""
    with pytest.raises(EdgeasdError) as error:
        machine_folders(tmp_path)

    assert str(error.value) == f"{tmp_path}: holds no folder of a machine type; {EXPECTED}"


def _write(folder: Path, *names: str) -> Path:
    """Write short recordings, or text where the name is of none."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".wav", ".flac"):
            soundfile.write(path, np.zeros(16), 16_000)
        else:
            path.write_text("path\n", encoding="utf-8")
    return folder
