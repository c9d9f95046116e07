"""Clips are whole files on real disks; old ones are removed, and faults reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.config.keys import ClipsConfig
from edgeasd.common.files.whole_file import draft_of, whole_file
from edgeasd.common.types import Int16Array
from edgeasd.publish.clips import folder as clips
from edgeasd.publish.clips import writer as clipwriter
from edgeasd.publish.clips.folder import Clip, ClipFolder, clip_name, find_clip, find_clips
from edgeasd.publish.clips.writer import MOST_WAITING_BYTES, ClipWriter
from edgeasd.publish.payloads.health import ClipsHealth
from tests.disks import FrozenDisk, SmallDisk, mounted_tmpfs
from tests.publish.brokers import wait_until

START_MS = 1_795_364_134_120  # 2026-11-22T16:15:34.120Z
NOISE: Int16Array = np.random.default_rng(1).integers(-32_768, 32_768, 48_000).astype(np.int16)


WRITE_A_CLIP = """
import ctypes, pathlib, sys
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE
from tests.publish.test_clips import ClipWriter, ClipsConfig, clip, health, wait_until
writer = ClipWriter(ClipsConfig(), pathlib.Path(sys.argv[1]))
writer.start()
writer.put(clip(1))
wait_until(lambda: health(writer).written, "the clip")
writer.stop(5.0)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of one megabyte: room for nine clips, with a twentieth left free."""
    with mounted_tmpfs(tmp_path / "disk", "1m") as disk:
        yield disk


@pytest.fixture
def open_writer() -> Iterator[Callable[..., ClipWriter]]:
    """Opens writers that run, and stops them in the end."""
    opened: list[ClipWriter] = []

    def make(
        directory: Path, config: ClipsConfig | None = None, ages_path: Path | None = None
    ) -> ClipWriter:
        opened.append(ClipWriter(config or ClipsConfig(), directory, ages_path))
        opened[-1].start()
        return opened[-1]

    yield make
    for writer in opened:
        writer.stop(5.0)


def clip(number: int) -> Clip:
    """Return a clip of a second that FLAC cannot shorten, named after its second."""
    name = clip_name(START_MS + 1000 * number, "press07", f"edge-5f1c2a9b-{number:06d}")
    return Clip(name, NOISE, 48_000)


def health(writer: ClipWriter) -> ClipsHealth:
    """Return the health that *writer* reports."""
    assert writer.health is not None
    return writer.health


def names(directory: Path) -> list[str]:
    """Return the files in *directory*, in order."""
    return sorted(path.name for path in directory.iterdir())


def test_clip_is_written_bit_for_bit_for_its_owner_alone(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """The file holds exactly the samples, and only the service's user can read it."""
    writer = open_writer(tmp_path / "clips")

    writer.put(clip(1))

    wait_until(lambda: health(writer).written, "the clip")
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


def test_find_clips_are_of_the_machine_whatever_it_is_called(tmp_path: Path) -> None:
    """Names may contain separators of file names: ``fan`` is neither ``big_fan`` nor ``fan_2``."""
    of_fan = "20261122T161535Z_fan_pc_1-5f1c2a9b-000001.flac"
    for name in (of_fan, of_fan.replace("fan", "big_fan"), of_fan.replace("fan", "fan_2")):
        (tmp_path / name).touch()

    assert [path.name for path in find_clips(tmp_path, "fan", "pc_1")] == [of_fan]


def test_clips_beyond_the_size_go_the_oldest_first(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """All clips together stay within the limit; other files stay in any case."""
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "notes.flac").write_bytes(bytes(2_000_000))
    writer = open_writer(folder, ClipsConfig(max_size_mb=1.0))

    for number in range(30):
        writer.put(clip(number))
        wait_until(lambda number=number: health(writer).written > number, "the clip")  # type: ignore[misc]

    kept = [name for name in names(folder) if name != "notes.flac"]
    assert kept == [clip(number).name for number in range(30 - len(kept), 30)]
    assert 800_000 < sum((folder / name).stat().st_size for name in kept) <= 1_000_000
    assert (folder / "notes.flac").exists()


def remember(path: Path, days: dict[str, float]) -> None:
    """Write into the file at *path* for how many days clips have been kept."""
    ran_s = 100 * 86_400.0
    seen_s = {name: ran_s - age * 86_400 for name, age in days.items()}
    path.write_text(json.dumps({"ran_s": ran_s, "first_seen_s": seen_s}))


def test_clips_too_old_and_half_written_ones_go_at_the_start(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """Files left by a crash and clips that are too old are removed; the others stay."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        (folder / clip(number).name).write_bytes(b"sound")
    draft_of(folder / clip(3).name).write_bytes(b"half")
    (folder / "other.part").write_bytes(b"not ours")
    remember(tmp_path / "ages", {clip(0).name: 31.0, clip(1).name: 29.0, "gone": 99.0})

    open_writer(folder, ages_path=tmp_path / "ages")

    wait_until(lambda: len(names(folder)) == 3, "the clean-up")
    assert names(folder) == [clip(1).name, clip(2).name, "other.part"]
    wait_until(lambda: b"gone" not in (tmp_path / "ages").read_bytes(), "the rest is remembered")
    kept = json.loads((tmp_path / "ages").read_text())["first_seen_s"]
    assert kept[clip(1).name] == 71 * 86_400.0
    assert kept[clip(2).name] >= 100 * 86_400.0


@pytest.mark.parametrize("years", [-56.0, -1.0, 0.0, 30.0], ids=lambda years: f"{years:+.0f} years")
@pytest.mark.parametrize("part", ["sound file", "name"])
def test_clips_do_not_age_by_the_wall_clock(tmp_path: Path, years: float, part: str) -> None:
    """Whatever the times of their files and names, the time that daemons have run counts."""
    wrong_s = max(0.0, time.time() + years * 365.25 * 86_400)
    name = clip(1).name
    if part == "name":
        name = clip_name(round(1000 * wrong_s), "press07", "edge-5f1c2a9b-000001")
    folder = ClipFolder(ClipsConfig(), tmp_path / "clips", tmp_path / "ages")
    folder.write(Clip(name, NOISE, 48_000))
    if part == "sound file":
        os.utime(tmp_path / "clips" / name, (wrong_s, wrong_s))

    folder.make_room()
    ClipFolder(ClipsConfig(), tmp_path / "clips", tmp_path / "ages").prepare()

    assert names(tmp_path / "clips") == [name]


def test_clips_beyond_the_size_go_by_age_though_the_clock_was_set_back(tmp_path: Path) -> None:
    """The clip written now is the newest, although by its name it is the oldest."""
    folder = ClipFolder(ClipsConfig(max_size_mb=0.25), tmp_path / "clips")
    for number in (3, 2, 1):
        folder.write(clip(number))

    assert names(tmp_path / "clips") == [clip(1).name, clip(2).name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"ran_s": 1, "first_seen_s": 7}',
        b'{"ran_s": NaN, "first_seen_s": {}}',
        b'{"ran_s": 1, "first_seen_s": {"a": "b"}}',
        b'{"ran_s": -1e9, "first_seen_s": {}}',
    ],
)
def test_clips_are_kept_where_nothing_says_how_old_they_are(tmp_path: Path, content: bytes) -> None:
    """No clip is lost with a lost or damaged file of ages, and the file is written anew."""
    (tmp_path / "ages").write_bytes(content)
    folder = ClipFolder(ClipsConfig(), tmp_path / "clips", tmp_path / "ages")
    folder.write(clip(1))
    folder.write(clip(2))

    folder.make_room()

    assert len(names(tmp_path / "clips")) == 2
    assert set(json.loads((tmp_path / "ages").read_text())["first_seen_s"]) == {
        clip(1).name,
        clip(2).name,
    }


def test_clips_are_kept_where_a_pipe_stands_in_place_of_their_ages(tmp_path: Path) -> None:
    """No clip waits for its other end."""
    os.mkfifo(tmp_path / "ages")
    folder = ClipFolder(ClipsConfig(), tmp_path / "clips", tmp_path / "ages")

    folder.write(clip(1))
    folder.write(clip(2))

    assert names(tmp_path / "clips") == [clip(1).name, clip(2).name]


def test_clips_age_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hours of many runs add up; hours in which no daemon ran do not count."""
    running_s = iter(float(hour * 3600) for hour in range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(running_s))
    config = ClipsConfig(max_age_days=1.0)
    ClipFolder(config, tmp_path / "clips", tmp_path / "ages").write(clip(1))

    n_runs = 0
    while names(tmp_path / "clips"):
        n_runs += 1
        ClipFolder(config, tmp_path / "clips", tmp_path / "ages").make_room()

    assert n_runs == 25


def test_clips_removed_by_somebody_else_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever moment a person or a backup takes one away, the next one is written."""
    folder = ClipFolder(ClipsConfig(), tmp_path / "clips")
    for number in range(2):
        folder.write(clip(number))
    found = clips._clips(tmp_path / "clips")
    monkeypatch.setattr(clips, "_clips", lambda _: found)
    found[0].unlink()

    folder.write(clip(2))

    assert names(tmp_path / "clips") == [clip(1).name, clip(2).name]


def test_half_written_clip_of_another_daemon_stays(tmp_path: Path) -> None:
    """Where two daemons share a folder, a file that the other is writing is not removed."""
    folder = tmp_path / "clips"
    folder.mkdir()

    with whole_file(folder / clip(1).name) as file:
        file.write(b"half")
        ClipFolder(ClipsConfig(), folder).prepare()
        during = names(folder)

    assert len(during) == 1
    assert names(folder) == [clip(1).name]


def test_clips_on_a_small_disk_leave_a_twentieth_free(
    disk: SmallDisk, open_writer: Callable[..., ClipWriter]
) -> None:
    """However much may be kept, clips do not fill the disk: the oldest are removed."""
    folder = disk.root / "clips"
    writer = open_writer(folder)

    for number in range(15):
        writer.put(clip(number))
        wait_until(lambda number=number: health(writer).written > number, "the clip")  # type: ignore[misc]

    state = os.statvfs(disk.root)
    assert state.f_bavail >= 0.05 * state.f_blocks
    assert names(folder)[-1] == clip(14).name
    assert health(writer).ok


def test_clip_on_a_full_disk_waits_and_is_told_until_there_is_room(
    disk: SmallDisk, open_writer: Callable[..., ClipWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clip waits, and no other is removed, since that would not help."""
    monkeypatch.setattr(clipwriter, "_RETRY_S", 0.1)
    folder = disk.root / "clips"
    writer = open_writer(folder)
    writer.put(clip(1))
    wait_until(lambda: health(writer).written, "the clip before")
    disk.fill()
    with (disk.root / "filler").open("r+b") as filler:
        filler.truncate(filler.seek(0, os.SEEK_END) - 8192)

    folder_full = [*names(folder)]
    writer.put(Clip(clip(2).name, np.tile(NOISE, 5), 48_000))

    wait_until(lambda: not health(writer).ok, "the fault")
    assert "clips cannot be written" in health(writer).reason
    assert "MB are free" in health(writer).reason
    assert names(folder) == folder_full == [clip(1).name]
    disk.free()
    wait_until(lambda: health(writer).written == 2, "the clip that waited")
    assert health(writer) == ClipsHealth(ok=True, reason="", written=2, dropped=0)


def test_clips_that_nobody_takes_are_dropped_the_oldest_first(tmp_path: Path) -> None:
    """No caller waits for the disk; clips beyond what memory may hold are dropped and counted."""
    writer = ClipWriter(ClipsConfig(), tmp_path / "clips")  # not started: takes nothing
    n_fit = MOST_WAITING_BYTES // NOISE.nbytes

    began_s = time.monotonic()
    for number in range(n_fit + 3):
        writer.put(clip(number))

    assert time.monotonic() - began_s < 30.0
    assert health(writer).dropped == 3


def test_clip_larger_than_all_may_be_is_dropped_and_others_are_written(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """A clip that can never be kept does not delay others; the log names the remedy."""
    writer = open_writer(tmp_path / "clips", ClipsConfig(max_size_mb=1.0))

    writer.put(Clip(clip(1).name, np.tile(NOISE, 20), 48_000))
    writer.put(clip(2))

    wait_until(lambda: health(writer).written, "the second clip")
    assert health(writer) == ClipsHealth(ok=True, reason="", written=1, dropped=1)
    assert names(tmp_path / "clips") == [clip(2).name]


def test_clip_that_cannot_be_made_does_not_keep_back_others(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """A defect costs one clip, not the thread."""
    writer = open_writer(tmp_path / "clips")

    writer.put(Clip(clip(1).name, NOISE, sample_rate=0))
    writer.put(clip(2))

    wait_until(lambda: health(writer).written, "the second clip")
    assert health(writer).dropped == 1


def test_clips_on_a_disk_that_does_not_answer_are_told_and_written_later(
    frozen_disk: FrozenDisk,
    open_writer: Callable[..., ClipWriter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A frozen file system delays only the writing thread; when it answers, all is written."""
    monkeypatch.setattr(clipwriter, "_SLOW_S", 0.5)
    writer = open_writer(frozen_disk.root / "clips")
    wait_until((frozen_disk.root / "clips").exists, "the folder")
    frozen_disk.freeze()

    waits = []
    for number in range(3):
        began_s = time.monotonic()
        writer.put(clip(number))
        waits.append(time.monotonic() - began_s)

    wait_until(lambda: "does not answer" in health(writer).reason, "the fault")
    assert max(waits) < 30.0
    assert health(writer).written == 0
    frozen_disk.thaw()
    wait_until(lambda: health(writer).written == 3, "the clips")
    assert health(writer) == ClipsHealth(ok=True, reason="", written=3, dropped=0)


@pytest.mark.parametrize("enabled", [True, False])
def test_clips_grow_old_while_the_daemon_runs(
    tmp_path: Path,
    open_writer: Callable[..., ClipWriter],
    monkeypatch: pytest.MonkeyPatch,
    *,
    enabled: bool,
) -> None:
    """No recording outlives its age: without an alarm, or once clips are switched off."""
    monkeypatch.setattr(clipwriter, "_TIDY_S", 0.1)
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / clip(1).name).write_bytes(b"sound")
    (folder / clip(2).name).write_bytes(b"sound")
    remember(tmp_path / "ages", {clip(1).name: 30.0 - 0.5 / 86_400, clip(2).name: 29.0})

    open_writer(folder, ClipsConfig(enabled=enabled), tmp_path / "ages")

    wait_until(lambda: names(folder) == [clip(2).name], "the old one is gone")


def test_clips_switched_off_leave_no_trace(
    tmp_path: Path, open_writer: Callable[..., ClipWriter]
) -> None:
    """No folder is made, and health does not mention clips."""
    writer = open_writer(tmp_path / "clips", ClipsConfig(enabled=False))

    writer.stop(5.0)

    assert not (tmp_path / "clips").exists()
    assert (writer.health, writer.fault) == (None, "")


def test_clip_is_written_where_no_memory_may_become_code(tmp_path: Path) -> None:
    """Under the kernel's part of systemd's ``MemoryDenyWriteExecute=yes`` clips are written."""
    command = [sys.executable, "-c", WRITE_A_CLIP, str(tmp_path / "clips")]

    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode == 0, result.stderr
    assert names(tmp_path / "clips") == [clip(1).name]
