"""Tests of the clips: files on real disks, old ones removed, trouble told."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.config import ClipsConfig
from edgeasd.publish.clips import MOST_WAITING, Clip, ClipWriter, clip_name, find_clip
from edgeasd.stream import Int16Array
from tests.publish.brokers import wait_until
from tests.publish.test_outbox import SmallDisk

START_MS = 1_795_364_134_120  # 2026-11-22T16:15:34.120Z
NOISE: Int16Array = np.random.default_rng(1).integers(-32_768, 32_768, 48_000).astype(np.int16)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of one megabyte: room for nine clips, with a twentieth left free."""
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield SmallDisk(root)
    subprocess.run(["umount", "-l", root], check=True)


@pytest.fixture
def open_writer() -> Iterator[Callable[..., ClipWriter]]:
    """Opens writers that run, and stops them in the end."""
    opened: list[ClipWriter] = []

    def make(directory: Path, config: ClipsConfig | None = None) -> ClipWriter:
        opened.append(ClipWriter(config or ClipsConfig(), directory))
        opened[-1].start()
        return opened[-1]

    yield make
    for writer in opened:
        writer.stop(5.0)


def clip(number: int) -> Clip:
    """Return a clip of a second that FLAC cannot shorten, named after its second."""
    name = clip_name(START_MS + 1000 * number, "press07", f"edge-5f1c2a9b-{number:06d}")
    return Clip(name, NOISE, 48_000)


def names(directory: Path) -> list[str]:
    """Return the files in *directory*, in order."""
    return sorted(path.name for path in directory.iterdir())


def test_clip_is_written_bit_for_bit_for_its_owner_alone(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """The file holds the very samples, and only the service's user can read it."""
    writer = open_writer(tmp_path / "clips")

    writer.put(clip(1))

    wait_until(lambda: writer.health.written, "the clip")
    path = find_clip(tmp_path / "clips", "edge-5f1c2a9b-000001")
    assert path is not None
    assert path.name == "20261122T161535Z_press07_edge-5f1c2a9b-000001.flac"
    samples, rate = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(samples, NOISE)
    assert rate == 48_000
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o077 == 0


def test_find_clip_of_an_unknown_event_is_none(tmp_path: Path) -> None:
    """Also where there is no folder at all."""
    assert find_clip(tmp_path / "absent", "edge-5f1c2a9b-000001") is None


def test_clips_beyond_the_size_go_the_oldest_first(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """All clips together stay within the limit; files that are not ours stay in any case."""
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "notes.flac").write_bytes(bytes(2_000_000))
    writer = open_writer(folder, ClipsConfig(max_size_mb=1.0))

    for number in range(30):
        writer.put(clip(number))
        wait_until(lambda number=number: writer.health.written > number, "the clip")  # type: ignore[misc]

    kept = [name for name in names(folder) if name != "notes.flac"]
    assert kept == [clip(number).name for number in range(30 - len(kept), 30)]
    assert 800_000 < sum((folder / name).stat().st_size for name in kept) <= 1_000_000
    assert (folder / "notes.flac").exists()


def test_clips_too_old_and_half_written_ones_go_at_the_start(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """What a crash left, and what is older than is kept, is removed; the rest stays."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        (folder / clip(number).name).write_bytes(b"sound")
    (folder / (clip(3).name + ".part")).write_bytes(b"half")
    (folder / "other.part").write_bytes(b"not ours")
    long_ago = time.time() - 31 * 86_400
    os.utime(folder / clip(0).name, (long_ago, long_ago))

    open_writer(folder)

    wait_until(lambda: len(names(folder)) == 3, "the clean-up")
    assert names(folder) == [clip(1).name, clip(2).name, "other.part"]


def test_clips_on_a_small_disk_leave_a_twentieth_free(
    disk: SmallDisk, open_writer: Callable[..., ClipWriter]
) -> None:
    """However much may be kept, clips do not fill the disk: the oldest go."""
    folder = disk.root / "clips"
    writer = open_writer(folder)

    for number in range(15):
        writer.put(clip(number))
        wait_until(lambda number=number: writer.health.written > number, "the clip")  # type: ignore[misc]

    state = os.statvfs(disk.root)
    assert state.f_bavail >= 0.05 * state.f_blocks
    assert names(folder)[-1] == clip(14).name
    assert writer.health.ok


def test_clip_on_a_full_disk_is_dropped_and_told_until_there_is_room(
    disk: SmallDisk, open_writer: Callable[..., ClipWriter]
) -> None:
    """Nothing is raised, the fault is told, and clips are written again when there is room."""
    writer = open_writer(disk.root / "clips")
    wait_until((disk.root / "clips").exists, "the folder")
    disk.fill()

    writer.put(clip(1))

    wait_until(lambda: writer.health.dropped, "the clip given up")
    assert not writer.health.ok
    assert "clips cannot be written" in writer.health.reason
    assert names(disk.root / "clips") == []
    disk.free()
    writer.put(clip(2))
    wait_until(lambda: writer.health.written, "the clip after that")
    assert writer.health.ok


def test_clips_that_a_stuck_disk_does_not_take_are_dropped_at_once(tmp_path: Path) -> None:
    """Whoever leaves a clip never waits: beyond the queue it is counted and dropped."""
    writer = ClipWriter(ClipsConfig(), tmp_path / "clips")  # not started: takes nothing

    began_s = time.monotonic()
    for number in range(MOST_WAITING + 3):
        writer.put(clip(number))

    assert time.monotonic() - began_s < 1.0
    assert writer.health.dropped == 3
    assert not writer.health.ok
