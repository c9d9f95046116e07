from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.errors import EdgeasdError
from train.data.clips import Clip, LeftOut
from train.data.datasets import read_clips


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two recordings."""
    folder = tmp_path / "press"
    folder.mkdir()
    for name in ("a.wav", "b.flac"):
        soundfile.write(folder / name, np.zeros((16, 2)), 16_000)
    return folder


def test_read_clips_of_a_manifest_gives_its_rows(folder: Path) -> None:
    """Every column counts, and a path is relative to the manifest."""
    header = "path,machine_type,section,domain,split,label,attributes,channel"
    row = '../press/b.flac,pump,left,target,test,anomaly,"30 bar, worn",1'
    manifest = _write(folder / "pumps.csv", header, row)

    assert read_clips(manifest).clips == [
        Clip(
            folder / "../press/b.flac",
            "pump",
            "left",
            "target",
            "test",
            "anomaly",
            attributes="30 bar, worn",
            channel=1,
        )
    ]


def test_read_clips_of_a_manifest_path_alone_is_enough(folder: Path) -> None:
    """A list of paths is normal training sound of one section, named after the folder."""
    _write(folder / "manifest.csv", "path", "a.wav", str(folder / "b.flac"))

    assert read_clips(folder).clips == [
        Clip(folder / "a.wav", "press", "00", "source", "train", "normal"),
        Clip(folder / "b.flac", "press", "00", "source", "train", "normal"),
    ]


def test_read_clips_of_a_manifest_anomalous_clips_are_for_testing(folder: Path) -> None:
    """The split of an anomalous clip need not be given; empty values are defaults."""
    _write(folder / "manifest.csv", "\ufefflabel,path,channel", "anomaly, a.wav ,", ",b.flac,1")

    clips = read_clips(folder).clips

    assert [(clip.split, clip.label, clip.channel) for clip in clips] == [
        ("test", "anomaly", 0),
        ("train", "normal", 1),
    ]


def test_read_clips_of_a_manifest_channels_of_a_file_are_clips(folder: Path) -> None:
    """One file may be listed once for each of its channels."""
    _write(folder / "manifest.csv", "path,channel,section", "a.wav,0,left", "a.wav,1,right")

    assert [clip.section for clip in read_clips(folder).clips] == ["left", "right"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("gone.wav,,,", "path must be a file, relative to the folder of the manifest"),
        ("manifest.csv,,,", "the name must end in .wav or .flac"),
        (",test,normal,0", "path is missing"),
        ("b.flac,eval,,", "split=eval must be one of train, test"),
        ("b.flac,,abnormal,", "label=abnormal must be one of normal, anomaly"),
        ("b.flac,train,anomaly,", "training clips must be normal"),
        ("b.flac,,,left", "channel=left must be a whole number, counted from 0"),
        ("b.flac,,,-1", "channel=-1 must be a whole number, counted from 0"),
        ("b.flac,,,0,1", "has more values than the first line has columns"),
        ("a.wav,test,,0", "the same recording is already in the data, perhaps in another format"),
    ],
)
def test_read_clips_of_a_manifest_bad_row_is_listed_by_line(
    row: str, reason: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that cannot be used is named by its line, and the rest is read."""
    manifest = _write(folder / "manifest.csv", "path,split,label,channel", "a.wav", "", row)

    dataset = read_clips(folder)

    assert [clip.path for clip in dataset.clips] == [folder / "a.wav"]
    assert dataset.left_out == [LeftOut(f"{manifest}:4", reason)]
    assert caplog.messages == [f"{manifest}:4: left out: {reason}"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,lable", "a.wav,normal"], "unknown key 'lable'; did you mean 'label'?"),
        (["section", "00"], "the first line must name path, and no column twice"),
        (["path,path", "a.wav,b"], "the first line must name path, and no column twice"),
        ([], "the first line must name path, and no column twice"),
        (["path", "a.wav", '"b.flac'], "after line 2: unexpected end of data"),
        (
            ["path,machine_type", "a.wav,fan", "b.flac,pump"],
            (
                "machine_type must be the same in all rows, not fan, pump; "
                "make a manifest for each, in a folder of its own"
            ),
        ),
    ],
)
def test_read_clips_of_a_manifest_that_cannot_be_used_says_why(
    lines: list[str], message: str, folder: Path
) -> None:
    """A mistake that concerns all rows is an error."""
    manifest = _write(folder / "manifest.csv", *lines)

    with pytest.raises(EdgeasdError) as error:
        read_clips(folder)

    assert str(error.value) == f"{manifest}: {message}"


def test_read_clips_of_a_manifest_in_another_encoding_says_so(folder: Path) -> None:
    """A spreadsheet's own encoding is not guessed at."""
    (folder / "manifest.csv").write_bytes("path\nprüfstand.wav\n".encode("latin-1"))

    with pytest.raises(EdgeasdError, match=r"manifest\.csv: must be saved as UTF-8$"):
        read_clips(folder)


def _write(manifest: Path, *lines: str) -> Path:
    manifest.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return manifest
