"""Clips of the whole daemon: what was heard around an alarm, and disks that do not take it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from edgeasd.common.errors import HungDeviceError
from edgeasd.common.files.whole_file import draft_of
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.detect.models import make_model, normal_sound
from tests.disks import FrozenDisk, SmallDisk, mounted_tmpfs
from tests.installation import FILE, NODE, RATE, SIMULATOR, Installation, events, finish
from tests.publish.brokers import Subscriber, wait_until

pytestmark = pytest.mark.network

ALWAYS = "[machine.alarm]\nthreshold = -1e9\nclear_threshold = -1e9\nraise_after = 1"
"""An alarm at the first score, for ever."""
HIGH = "\n[machine.alarm]\nthreshold = 60.0\nclear_threshold = 60.0"
"""Of the model's scores: what was resampled is 6 when it is well and 130 when it is not."""


@pytest.fixture
def state_disk(installation: Installation) -> Iterator[SmallDisk]:
    """A disk of 4 MB, which is the installation's state directory."""
    with mounted_tmpfs(installation.folder / "state", "4m") as disk:
        yield disk


def clips_health(subscriber: Subscriber) -> dict[str, Any]:
    """Return what was last said of clips; empty before."""
    said = subscriber.on(f"{NODE}/health")
    return dict(json.loads(said[-1])["clips"]) if said else {}


@pytest.mark.parametrize(("rate", "tolerance"), [(16_000, 0.0), (48_000, 1e-4), (44_100, 1e-2)])
def test_clip_holds_what_was_heard_and_scores_as_it_did(
    subscriber: Subscriber, installation: Installation, rate: int, tolerance: float
) -> None:
    """The named file has the very samples of the source, and its replay has the alarm's score.

    Bit for bit at the model's rate.  At three times that rate the resampler began elsewhere; at
    44.1 kHz the clip begins up to a sample beside the window, too.
    """
    sound, _ = soundfile.read(installation.folder / "sound.wav", dtype="int16")
    sound = soxr.resample(sound, RATE, rate)
    soundfile.write(installation.folder / "source.wav", sound, rate)
    installation.configure(FILE.replace("sound.wav", "source.wav") + HIGH)

    finish(installation.start())
    subscriber.wait_for(f"{NODE}/availability", b"offline")

    start, end = events(subscriber)
    assert (start["type"], end["clip"]) == ("start", None)
    clip, clip_rate = soundfile.read(
        installation.folder / "state/clips" / start["clip"], dtype="int16"
    )
    at = start["first_sample"] * rate // RATE
    first = at + 10 * rate - len(clip)
    assert clip_rate == rate
    assert 20.0 <= (at - first) / rate < 20.3
    np.testing.assert_array_equal(clip, sound[first : first + len(clip)])
    rows = installation.score(f"state/clips/{start['clip']}")
    ends_s = [row["end_s"] + first / rate - start["first_sample"] / RATE for row in rows]
    nearest = min(range(len(rows)), key=lambda n: abs(ends_s[n]))
    print(f"{rate} Hz: {rows[nearest]['score'] - start['score']:+.1e} of {start['score']:.1f}")
    assert abs(ends_s[nearest]) < 1.5 / RATE
    assert abs(rows[nearest]["score"] - start["score"]) <= tolerance


def test_daemon_without_clips_keeps_no_sound(
    subscriber: Subscriber, installation: Installation
) -> None:
    """Switched off, nothing of what was heard is on the disk."""
    installation.configure(FILE, mqtt="[clips]\nenabled = false")

    finish(installation.start())
    subscriber.wait_for(f"{NODE}/availability", b"offline")

    assert [event["clip"] for event in events(subscriber)] == [None, None]
    assert not (installation.folder / "state" / "clips").exists()


def test_daemon_whose_clips_cannot_be_written_sends_its_alerts(
    subscriber: Subscriber, installation: Installation
) -> None:
    """A folder that cannot be made costs the clip, not the alert; health says so."""
    (installation.folder / "clips").write_text("a file, not a folder")
    installation.configure(FILE, mqtt='[clips]\ndirectory = "clips"')

    log = finish(installation.start())
    subscriber.wait_for(f"{NODE}/availability", b"offline")

    assert [event["type"] for event in events(subscriber)] == ["start", "end"]
    assert "clips cannot be written to" in log
    clips = json.loads(subscriber.on(f"{NODE}/health")[-1])["clips"]
    assert not clips["ok"]


def test_daemon_on_a_full_disk_sends_alerts_and_writes_the_clip_when_there_is_room(
    subscriber: Subscriber, installation: Installation, state_disk: SmallDisk
) -> None:
    """With outbox and clips on one full disk nothing is lost, all is told, and all recovers."""
    state_disk.fill()
    installation.configure(FILE, SIMULATOR)
    process = installation.start()

    wait_until(lambda: len(events(subscriber)) == 2, "both events")
    wait_until(lambda: clips_health(subscriber).get("ok") is False, "the fault in health")

    start, _ = events(subscriber)
    clip = state_disk.root / "clips" / start["clip"]
    assert "clips cannot be written" in clips_health(subscriber)["reason"]
    assert not clip.exists()
    state_disk.free()
    wait_until(clip.exists, "the clip that waited")
    wait_until(lambda: clips_health(subscriber)["ok"], "the recovery in health")
    assert clips_health(subscriber) == {"ok": True, "reason": "", "written": 1, "dropped": 0}
    process.terminate()
    finish(process)


@pytest.mark.slow
def test_daemon_killed_while_it_writes_leaves_no_half_clip_after_the_restart(
    subscriber: Subscriber, installation: Installation, frozen_disk: FrozenDisk
) -> None:
    """A disk that does not answer delays no alert; what a kill leaves half written goes.

    The disk is a real one that is frozen, so the writing thread stands in the kernel.
    """
    folder = frozen_disk.root / "clips"
    folder.mkdir()
    half = draft_of(folder / "20261122T161534Z_m1_n1-5f1c2a9b-000001.flac")
    half.touch()
    make_model(installation.folder / "tiny.onnx", clip_windows=4)
    clips = f'[clips]\ndirectory = "{folder}"\nafter_s = 0.0'
    installation.configure(f"{SIMULATOR}\n{ALWAYS}", mqtt=clips)
    process = installation.start()
    wait_until(lambda: not half.exists(), "the folder is clean")

    frozen_disk.freeze()
    wait_until(lambda: events(subscriber), "the event")
    began_s = time.monotonic()
    wait_until(lambda: not clips_health(subscriber).get("ok", True), "the fault in health")
    print(f"a disk that does not answer: told after {time.monotonic() - began_s:.1f} s")
    n_scores = len(subscriber.on(f"{NODE}/m1/score"))
    wait_until(lambda: len(subscriber.on(f"{NODE}/m1/score")) > n_scores + 1, "scores go on")
    process.send_signal(signal.SIGKILL)
    frozen_disk.thaw()
    process.wait(60.0)
    left = list(folder.iterdir())
    installation.configure(SIMULATOR, mqtt=clips)
    process = installation.start()
    wait_until(lambda: not any(folder.iterdir()), "the folder is clean again")

    assert n_scores >= 8
    assert [path.name.rsplit(".", 2)[0] for path in left] == [f".{events(subscriber)[0]['clip']}"]
    process.terminate()
    finish(process)


@pytest.mark.slow
@pytest.mark.audio_device
def test_clip_of_a_microphone_that_fell_silent_ends_there(
    subscriber: Subscriber, installation: Installation, alsa: VirtualMicrophone
) -> None:
    """Nobody waits for sound that may never come: the clip is what was heard after 10 s without.

    A device that hangs for so long ends the daemon as well, for a restart.
    """
    make_model(installation.folder / "tiny.onnx", clip_windows=4)
    microphone = f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = {RATE}'
    installation.configure(f"{microphone}\n{ALWAYS}")
    sound = (32_768 * normal_sound(5 * RATE)).astype(np.int16)
    process = installation.start(**alsa.environment)
    alsa.feed(sound)
    wait_until(lambda: events(subscriber), "the alarm")
    clip = installation.folder / "state/clips" / events(subscriber)[0]["clip"]
    wait_until(clip.exists, "the clip", deadline_s=30.0)
    process.communicate(timeout=60)

    heard, _ = soundfile.read(clip, dtype="int16")
    np.testing.assert_array_equal(heard, sound[: len(heard)])
    assert len(heard) > 4.9 * RATE
    assert process.returncode == HungDeviceError.exit_code


@pytest.mark.slow
def test_clip_is_there_when_its_last_second_was_heard(
    subscriber: Subscriber, installation: Installation
) -> None:
    """In real time the event comes at once, and the file as soon as its sound is over."""
    after_s = 2.0
    make_model(installation.folder / "tiny.onnx", clip_windows=4)
    installation.configure(f"{SIMULATOR}\n{ALWAYS}", mqtt=f"[clips]\nafter_s = {after_s}")
    process = installation.start()
    wait_until(lambda: events(subscriber), "the alarm")
    event = next(one for one in subscriber.messages if one.topic == f"{NODE}/m1/event")

    clip = installation.folder / "state/clips" / event.json["clip"]
    wait_until(clip.exists, "the clip")

    delay_s = time.monotonic() - event.received_s
    print(f"clip {delay_s:.2f} s after its event, of which {after_s:.0f} s are sound")
    assert after_s - 0.5 < delay_s < after_s + 5.0
    process.terminate()
    finish(process)
