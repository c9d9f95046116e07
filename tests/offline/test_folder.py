"""The folder of recordings: names, order, the log beside them, and a disk that fills up."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from edgeasd.common.errors import ConfigError, StorageError
from edgeasd.common.files.whole_file import draft_of
from edgeasd.common.types import AudioBlock
from edgeasd.detect.levels import LevelMeter
from edgeasd.offline.recordings.cutter import CLIP_S, Stretch
from edgeasd.offline.recordings.folder import LOG_NAME, Place, RecordingFolder
from tests.disks import mounted_tmpfs

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 8_000
END_S = 1_795_364_144.0  # 2026-11-22T16:15:44Z


def stretch(seed: int = 1, flaw: str = "", n_samples: int = CLIP_S * RATE) -> Stretch:
    """A stretch of 16-bit noise."""
    values = np.random.default_rng(seed).integers(-20_000, 20_000, n_samples)
    samples = (values / 32_768).astype(np.float32)
    meter = LevelMeter(RATE)
    meter.process(AudioBlock(samples, 0))
    return Stretch(samples, flaw, meter.levels, 400 if flaw == "gap" else 0)  # type: ignore[arg-type]


def place(folder: Path, section: str = "00", domain: str = "source") -> Place:
    """Where the clips go."""
    return Place(folder, section, domain)


def rows(folder: Path) -> list[dict[str, str]]:
    """The log."""
    with (folder / LOG_NAME).open(newline="") as file:
        return list(csv.DictReader(file))


def test_clip_is_written_bit_for_bit_under_its_name(tmp_path: Path) -> None:
    """The name says section, domain, number and start; the file holds the very samples."""
    clip = stretch()

    with RecordingFolder(place(tmp_path)) as folder:
        path = folder.add(clip, RATE, END_S)

    assert path == (
        tmp_path / "train" / "section_00_source_train_normal_0000_20261122T161534Z.flac"
    )
    samples, rate = soundfile.read(path, dtype="float32")
    assert (np.array_equal(samples, clip.samples), rate) == (True, RATE)
    assert list((tmp_path / "train").iterdir()) == [path]


def test_log_has_a_row_for_each_clip_and_each_stretch_left_out(tmp_path: Path) -> None:
    """Level, time and reason are told; a second call writes no second header."""
    with RecordingFolder(place(tmp_path)) as folder:
        folder.add(stretch(), RATE, END_S)
        folder.leave_out(stretch(2, "gap", 2_000), RATE, END_S + 1)
    with RecordingFolder(place(tmp_path)) as folder:
        folder.add(stretch(3), RATE, END_S + 20)

    first, gap, second = rows(tmp_path)
    assert first["file"] == "train/section_00_source_train_normal_0000_20261122T161534Z.flac"
    assert (first["start"], first["duration_s"]) == ("2026-11-22T16:15:34.000+00:00", "10.0")
    assert (first["level_dbfs"], first["left_out"]) == ("-9.1", "")
    assert (gap["file"], gap["left_out"], gap["lost_s"]) == ("", "gap", "0.05")
    assert (gap["start"], gap["duration_s"]) == ("2026-11-22T16:15:44.750+00:00", "0.25")
    assert "_0001_" in second["file"]


def test_folder_counts_and_numbers_each_section_and_domain_by_itself(tmp_path: Path) -> None:
    """What another section or domain has is neither counted nor overwritten."""
    for section, domain in (("00", "source"), ("00", "target"), ("01", "source")):
        with RecordingFolder(place(tmp_path, section, domain)) as folder:
            assert folder.n_clips == 0
            folder.add(stretch(), RATE, END_S)

    names = sorted(path.name[:37] for path in (tmp_path / "train").iterdir())
    assert names == [
        "section_00_source_train_normal_0000_2",
        "section_00_target_train_normal_0000_2",
        "section_01_source_train_normal_0000_2",
    ]


def test_folder_continues_after_the_highest_number(tmp_path: Path) -> None:
    """Clips that were deleted are not counted, and their numbers not given again."""
    with RecordingFolder(place(tmp_path)) as folder:
        paths = [folder.add(stretch(), RATE, END_S) for _ in range(3)]
    paths[0].unlink()
    left = draft_of(paths[1])
    left.write_bytes(b"what a power cut left")
    other = left.with_name(".other.flac.part")
    other.touch()

    with RecordingFolder(place(tmp_path)) as folder:
        assert folder.n_clips == 2
        assert "_0003_" in folder.add(stretch(), RATE, END_S).name

    assert not left.exists()
    assert other.exists()


def test_folder_counts_again_once_it_has_it_to_itself(tmp_path: Path) -> None:
    """A recording that ended between the look and the lock has given out numbers."""
    late = RecordingFolder(place(tmp_path))
    with RecordingFolder(place(tmp_path)) as folder:
        folder.add(stretch(), RATE, END_S)

    with late as folder:
        assert folder.n_clips == 1
        assert "_0001_" in folder.add(stretch(), RATE, END_S).name


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
def test_log_that_leads_elsewhere_is_not_written(tmp_path: Path, kind: str) -> None:
    """Whoever may write to the folder cannot have root write to another file, nor wait."""
    other = tmp_path.with_name(f"{tmp_path.name}-other")
    other.write_text("of root")
    log = tmp_path / LOG_NAME
    if kind == "link":
        log.symlink_to(other)
    elif kind == "hard link":
        log.hardlink_to(other)
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.mkdir()

    with pytest.raises(StorageError, match=r"\(recording.csv is not a plain file\); remove it, or"):
        RecordingFolder(place(tmp_path)).__enter__()

    assert other.read_text() == "of root"


def test_folder_refuses_a_second_recording_at_the_same_time(tmp_path: Path) -> None:
    """Two recordings would give each other's numbers."""
    with RecordingFolder(place(tmp_path)), pytest.raises(StorageError) as caught:
        RecordingFolder(place(tmp_path, "01")).__enter__()

    assert str(caught.value) == (
        f"{tmp_path}: another process is recording into this folder; wait until it ends, or choose "
        "another folder with --out"
    )


def test_folder_with_a_manifest_is_refused(tmp_path: Path) -> None:
    """Clips beside a manifest would never be read by the trainer."""
    (tmp_path / "manifest.csv").touch()

    with pytest.raises(StorageError, match=r"holds a manifest\.csv"):
        RecordingFolder(place(tmp_path))


def test_require_space_counts_what_is_needed_before_anything_is_made(tmp_path: Path) -> None:
    """A recording that cannot fit is refused, with both figures, and leaves no folder behind."""
    folder = RecordingFolder(place(tmp_path / "new"))

    with pytest.raises(StorageError) as caught:
        folder.require_space(10**8, 48_000)

    assert "100000000 more clips need 96000068 MB on this disk" in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("section", ["0", "000", "0a", "", "٣٣"])
def test_place_of_a_section_that_is_not_two_digits_is_refused(section: str) -> None:
    """The trainer would not know the file's name."""
    with pytest.raises(ConfigError) as caught:
        Place(Path(), section, "source")

    assert str(caught.value) == f"section={section!r} must be two digits, for example 00"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 65 MiB, hardly more than what is to be left free."""
    with mounted_tmpfs(tmp_path / "disk", "65m") as disk:
        yield disk.root


def test_folder_on_a_disk_that_fills_up_keeps_what_is_whole(small_disk: Path) -> None:
    """The clip that no longer fits is refused; those before it are whole, and nothing else is."""
    with RecordingFolder(place(small_disk)) as folder:
        fill = (folder.add(stretch(number), RATE, END_S) for number in range(100))
        with pytest.raises(StorageError, match=r"1 more clips need \d+ MB on this disk"):
            list(fill)
        n_clips = folder.n_clips

    paths = sorted((small_disk / "train").iterdir())
    assert 0 < n_clips < 100
    assert [soundfile.info(path).frames for path in paths] == [CLIP_S * RATE] * n_clips
    assert len(rows(small_disk)) == n_clips
