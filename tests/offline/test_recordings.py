"""Recordings as streams: no false seam is heard, and all that cannot be used is named at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.errors import AudioFileError
from edgeasd.common.resampler import Resampler
from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.detect.features import FeatureSpec
from edgeasd.offline.recordings.cutter import CLIP_S, Cutter
from edgeasd.offline.recordings.folder import Place, RecordingFolder
from edgeasd.offline.recordings.limits import refuse_too_much
from edgeasd.offline.recordings.recordings import blocks_of, find_recordings, limitations
from tests.detect.models import normal_sound

RATE = 16_000


def record(folder: Path, samples: Float32Array, rate: int, lost: int = 0) -> list[Path]:
    """Record *samples* as ``edgeasd record`` does, with *lost* samples in their middle."""
    cutter, paths = Cutter(rate), []
    middle = len(samples) // 2
    with RecordingFolder(Place(folder, "00", "source")) as clips:
        for block in (AudioBlock(samples[:middle], 0), AudioBlock(samples[middle:], middle + lost)):
            for stretch in cutter.process(block):
                if stretch.flaw:
                    clips.leave_out(stretch, rate, 1_795_364_144.0)
                else:
                    paths.append(clips.add(stretch, rate, 1_795_364_144.0))
    return paths


def stream(paths: list[Path], rate: int = RATE) -> list[AudioBlock]:
    """Return the stream of one recording, joined up to its gaps."""
    (recording,) = find_recordings(paths)
    pieces: list[AudioBlock] = []
    for block in blocks_of(recording, 0, rate):
        before = pieces[-1] if pieces else AudioBlock(block.samples[:0], 0)
        if block.first_sample != before.first_sample + len(before.samples):
            pieces.append(block)
        else:
            joined = np.concatenate((before.samples, block.samples))
            pieces[-1:] = [AudioBlock(joined, before.first_sample)]
    return pieces


@pytest.mark.parametrize("rate", [16_000, 11_025])
def test_recorded_clips_that_follow_each_other_are_one_stream(tmp_path: Path, rate: int) -> None:
    """The very sound that was heard, also at another rate: no seam is in it."""
    sound = normal_sound(4 * CLIP_S * rate, 1)
    paths = record(tmp_path, sound, rate)
    resampler = Resampler(rate, RATE)
    written = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])
    expected = [resampler.process(AudioBlock(written, 0)), resampler.flush()]

    (piece,) = stream([tmp_path])

    assert len(paths) == 4
    assert np.array_equal(piece.samples, np.concatenate([each.samples for each in expected]))


def test_recorded_clips_with_a_loss_between_them_have_a_gap_there(tmp_path: Path) -> None:
    """A sample that was lost, a call that came later and a clip that was deleted are gaps."""
    sound = normal_sound(4 * CLIP_S * RATE, 1)

    lost = record(tmp_path / "lost", sound, RATE, lost=1)
    later = record(tmp_path / "later", sound[: 20 * RATE], RATE)
    later += record(tmp_path / "later", sound[20 * RATE :], RATE)
    deleted = record(tmp_path / "deleted", sound, RATE)
    deleted.pop(1).unlink()

    assert [len(each.samples) // RATE for each in stream(lost)] == [20, 20]
    assert [len(each.samples) // RATE for each in stream(later)] == [20, 20]
    assert [len(each.samples) // RATE for each in stream(deleted)] == [10, 20]


def test_clips_of_others_have_a_gap_at_each_seam(tmp_path: Path) -> None:
    """Nobody knows whether one follows the other; a seam is no sound of the machine."""
    for index in range(3):
        soundfile.write(tmp_path / f"{index}.wav", normal_sound(CLIP_S * RATE, index), RATE)

    pieces = stream([tmp_path])

    assert [len(each.samples) for each in pieces] == [CLIP_S * RATE] * 3
    assert [each.first_sample for each in pieces] == [
        index * (CLIP_S * RATE + 1) for index in range(3)
    ]


def test_clip_that_says_it_follows_is_believed_at_its_own_rate_only(tmp_path: Path) -> None:
    """A comment is foreign text: sound of another rate does not go on."""
    first, second = record(tmp_path, normal_sound(2 * CLIP_S * RATE, 1), RATE)
    samples, _ = soundfile.read(second, dtype="int16")
    with soundfile.SoundFile(second, "w", 8_000, 1, "PCM_16", format="FLAC") as file:
        file.comment = f"follows {first.name}"
        file.write(samples)

    assert [len(each.samples) // RATE for each in stream([first, second])] == [10, 20]


def test_find_recordings_names_all_bad_files_at_once(tmp_path: Path) -> None:
    """Before the work, so that one round of mending is enough."""
    soundfile.write(tmp_path / "a.wav", normal_sound(RATE, 1), RATE)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:30])
    (tmp_path / "c.wav").touch()

    with pytest.raises(AudioFileError) as caught:
        find_recordings([tmp_path, tmp_path / "d.wav"])
    with pytest.raises(AudioFileError) as one_channel:
        find_recordings([tmp_path / "a.wav"], channel=1)

    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "b.wav: is not a sound file that can be read; convert it to WAV or FLAC; "
        "also c.wav: is empty; record it again; also d.wav: does not exist; check the path"
    )
    assert "channel=1 must be from 0 to 0" in str(one_channel.value)


def test_find_recordings_of_many_bad_files_names_some(tmp_path: Path) -> None:
    """A folder of the wrong kind does not fill the screen."""
    for index in range(50):
        (tmp_path / f"{index:02d}.wav").touch()

    with pytest.raises(AudioFileError, match=r"19\.wav: is empty; record it again; and 30 more"):
        find_recordings([tmp_path])


def test_days_of_sound_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """What the headers say is enough: nine files of the size of a picture could fill the memory."""
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(RATE, np.float32), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[22:26] = (25 * 3600 * RATE).to_bytes(4, "big")
    path.write_bytes(content)

    with pytest.raises(AudioFileError) as caught:
        refuse_too_much(find_recordings([path]))

    assert str(caught.value) == "normal sound=25 h must be at most 24 h; leave some files out"


def test_limitations_are_told_once_for_all_files(tmp_path: Path) -> None:
    """Rate and bits, with a file to look at."""
    for name, rate, subtype in (
        ("a", 8_000, "PCM_16"),
        ("b", 8_000, "PCM_U8"),
        ("c", 16_000, "PCM_16"),
        ("d", 44_100, "FLOAT"),
    ):
        (tmp_path / name).mkdir()
        soundfile.write(
            tmp_path / name / f"{name}.wav", normal_sound(rate, 1), rate, subtype=subtype
        )

    assert limitations(find_recordings(sorted(tmp_path.iterdir())), FeatureSpec()) == [
        "warning: 8000 Hz holds nothing above 4 kHz, the model listens up to 8 kHz; use a source "
        "of 16000 Hz or more (a.wav and 1 more)",
        "warning: 8 bits a sample hide all sound below -50 dBFS; record with 16 bits (b.wav)",
    ]
