"""Sources of sound that are not there yet, or do not open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgeasd.capture import source as source_module
from edgeasd.capture.microphone import search as search_module
from edgeasd.capture.source import AudioSource, Waiting, open_or_wait, open_source
from edgeasd.common.config.keys import FileConfig, MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError, ConfigError, EdgeasdError

RATE = 16_000
FAULT = "not there"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "_FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(search_module, "_LONGEST_DELAY_S", 0.02)


def record(path: Path) -> None:
    """Write a second of sound as one file, whole at once."""
    draft = path.with_suffix(".new")
    soundfile.write(draft, np.zeros(RATE), RATE, subtype="PCM_16", format="WAV")
    draft.replace(path)


def take(waiting: Waiting) -> AudioSource:
    """Return the source that *waiting* finds."""
    deadline_s = time.monotonic() + 60.0
    while (found := waiting.take()) is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return found


def test_waiting_has_no_sound_until_the_source_is_there(tmp_path: Path) -> None:
    """The source that is found has the sound, and is handed over once."""
    path = tmp_path / "sound.wav"
    waiting = Waiting(FileConfig(path=path, paced=False), FAULT, RATE)

    said = waiting.read(0.0), waiting.fault, waiting.take(), waiting.ended, waiting.hung
    record(path)
    found = take(waiting)
    block = found.read(1.0)
    again = waiting.take()
    found.close()
    waiting.close()

    assert (said[0], said[2:]) == (None, (None, False, False))
    assert said[1] == FAULT or "sound.wav" in said[1]
    assert block is not None
    assert len(block.samples) > 0
    assert again is None


def test_waiting_that_is_closed_looks_no_further(tmp_path: Path) -> None:
    """What comes after that is left alone, and a read returns at once."""
    path = tmp_path / "sound.wav"
    waiting = Waiting(FileConfig(path=path, paced=False), FAULT, RATE)

    waiting.close()
    record(path)
    waiting._thread.join(60.0)
    began_s = time.monotonic()
    waiting.read(60.0)

    assert waiting.take() is None
    assert time.monotonic() - began_s < 30.0


def test_waiting_survives_an_error_for_no_known_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and looks on: who looks no more finds nothing."""
    path = tmp_path / "sound.wav"
    errors = [KeyError("a defect"), OSError("another")]

    def failing(*arguments: Any) -> AudioSource:
        if errors:
            raise errors.pop()
        return open_source(*arguments)

    monkeypatch.setattr("edgeasd.capture.source.open_source", failing)
    waiting = Waiting(FileConfig(path=path, paced=False), FAULT, RATE)
    deadline_s = time.monotonic() + 60.0
    while "internal error" not in waiting.fault and errors:
        assert time.monotonic() < deadline_s

    record(path)
    take(waiting).close()
    waiting.close()


def test_waiting_for_the_attempts_of_others_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many microphones are looked for in turn; only the one whose own attempt hangs says so."""
    monkeypatch.setattr(search_module, "_PATIENCE_S", 0.1)
    n_hanging, release = threading.Semaphore(0), threading.Event()

    def hang(*_: object) -> None:
        n_hanging.release()
        release.wait(60.0)
        raise AudioDeviceError("not there")

    monkeypatch.setattr(search_module, "InputStream", hang)
    monkeypatch.setattr(search_module, "refresh", lambda: True)
    waiting = [Waiting(MicrophoneConfig(device=f"missing {n}"), FAULT, RATE) for n in range(3)]

    n_hanging.acquire(timeout=60.0)
    waiting[0].read(0.3)
    told = [one.hung for one in waiting]
    release.set()
    for one in waiting:
        one.close()
    for one in waiting:  # on its way out it draws a random number, which hypothesis would notice
        one._thread.join(60.0)

    assert sorted(told) == [False, False, True]


def test_microphone_that_hangs_while_it_is_opened_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is waited for in a thread and told; once it answers after all, it is there."""
    release, opened = threading.Event(), WithoutSound()

    def hang(*_: object) -> AudioSource:
        release.wait(60.0)
        return opened

    monkeypatch.setattr(source_module, "open_source", hang)
    monkeypatch.setattr(source_module, "_OPEN_PATIENCE_S", 0.1)
    waiting = open_or_wait(MicrophoneConfig(), RATE, AudioDeviceError)

    assert isinstance(waiting, Waiting)
    assert (waiting.read(0.0), waiting.take(), waiting.sample_rate) == (None, None, RATE)
    assert waiting.fault == (
        "the microphone does not answer to being opened; reconnect it, or restart the sound server"
    )
    release.set()
    assert take(waiting) is opened


@pytest.mark.parametrize("excused", [AudioDeviceError, EdgeasdError])
def test_microphone_that_is_not_there_is_waited_for_from_the_first_error_on(
    monkeypatch: pytest.MonkeyPatch, excused: type[EdgeasdError]
) -> None:
    """Its fault is the error; nobody waits until the patience is over."""
    monkeypatch.setattr(source_module, "_OPEN_PATIENCE_S", 60.0)
    monkeypatch.setattr(source_module, "open_source", raising(AudioDeviceError(FAULT)))

    waiting = open_or_wait(MicrophoneConfig(), RATE, excused)

    assert isinstance(waiting, Waiting)
    assert waiting.fault == FAULT
    waiting.close()
    waiting._thread.join(10.0)


def test_microphone_that_cannot_be_used_as_configured_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error that is not excused is raised, and nobody looks for the microphone any more."""
    monkeypatch.setattr(source_module, "open_source", raising(ConfigError("another rate")))
    n_threads = threading.active_count()

    with pytest.raises(ConfigError, match="another rate"):
        open_or_wait(MicrophoneConfig(), RATE, AudioDeviceError)

    deadline_s = time.monotonic() + 10.0
    while threading.active_count() > n_threads:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def raising(error: Exception) -> Callable[..., AudioSource]:
    """Return what raises *error* in place of opening a source."""

    def fail(*_: object) -> AudioSource:
        raise error

    return fail


class WithoutSound(Waiting):
    """A source that is open."""

    def __init__(self) -> None:
        """Look for nothing."""
