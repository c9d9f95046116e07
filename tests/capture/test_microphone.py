"""What a microphone does when the device fails, with a scripted library in place of PortAudio.

No virtual device fails on request; `test_microphone_capture` uses the real library.
"""

from __future__ import annotations

import logging
import math
import queue
import sys
import threading
import time
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgeasd.capture.microphone import devices as devices_module
from edgeasd.capture.microphone import portaudio
from edgeasd.capture.microphone import reader as reader_module
from edgeasd.capture.microphone import search as search_module
from edgeasd.capture.microphone.channel import Microphone
from edgeasd.capture.microphone.portaudio import InputStream, list_devices, refresh
from edgeasd.cli.listen.level_meter import measure_level
from edgeasd.common.config.keys import MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError, ConfigError
from tests.capture.test_devices import plug_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeasd.common.types import AudioBlock, Int16Array

RATE = 16_000
BLOCK = 512
CONFIG = MicrophoneConfig(device="desk", sample_rate=RATE)


class PortAudioError(Exception):
    """As the library's own: a text and a code."""

    def __str__(self) -> str:
        return str(self.args[0])


class Library(ModuleType):
    """A library with one stereo device, whose streams play `script`, each item one block.

    An item is samples, samples with the overflow flag, an exception to raise, or a function to
    call in place of the device.
    """

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.script: queue.Queue[Any] = queue.Queue()
        self.refused: dict[float, PortAudioError] = {}
        self.plugged_in = True
        self.name = "desk"
        self.n_channels = 2
        self.opened_channels: list[int] = []
        self.most_channels = 32
        self.opened_at_s: list[float] = []
        self.n_open = 0
        self.n_initialised = 0
        self._initialized = 1

    def _initialize(self) -> None:
        self._initialized += 1
        self.n_initialised += 1

    def _terminate(self) -> None:
        assert self.n_open == 0, "this would end all streams"
        self._initialized -= 1

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}]

    def query_devices(self, kind: str = "") -> Any:
        if kind:
            raise PortAudioError("Error querying device -1")
        speaker = self._device(0, "speaker", n_channels=0)
        desk = self._device(1, self.name, n_channels=self.n_channels)
        return [speaker, desk] if self.plugged_in else [speaker]

    def check_input_settings(self, *_: Any, samplerate: float) -> None:
        if samplerate in self.refused:
            raise self.refused[samplerate]

    def RawInputStream(self, *, samplerate: float, channels: int, **_: Any) -> Stream:  # noqa: N802
        self.opened_at_s.append(time.monotonic())
        self.opened_channels.append(channels)
        if channels > self.most_channels:
            raise PortAudioError("Invalid number of channels", -9998)
        self.check_input_settings(samplerate=samplerate)
        return Stream(self, channels)

    @staticmethod
    def _device(index: int, name: str, n_channels: int) -> dict[str, Any]:
        return {
            "index": index,
            "name": name,
            "hostapi": 0,
            "max_input_channels": n_channels,
            "default_samplerate": 48_000.0,
        }


class Stream:
    """A stream of the scripted library; it must be used as the real one must."""

    def __init__(self, library: Library, n_channels: int) -> None:
        self._library = library
        self._n_channels = n_channels
        library.n_open += 1

    def start(self) -> None:
        self._reader: threading.Thread | None = None

    def read(self, n_samples: int) -> tuple[bytes, bool]:
        self._reader = threading.current_thread()
        item = self._library.script.get()
        if isinstance(item, Exception):
            raise item
        if callable(item):
            item()
            item = np.zeros(n_samples, np.int16)
        samples, overflowed = item if isinstance(item, tuple) else (item, False)
        assert samples.size == n_samples
        # Channel n is louder by 100 n, to tell them apart.
        channels = 100 * np.arange(self._n_channels, dtype=np.int16)
        return (samples[:, np.newaxis] + channels).tobytes(), overflowed

    def abort(self) -> None:
        assert self._reader in (None, threading.current_thread())

    def close(self) -> None:
        self._library.n_open -= 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Return the scripted library, in place of the real one, and make waits short."""
    library = Library()
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    monkeypatch.setattr(search_module, "_FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(search_module, "_LONGEST_DELAY_S", 0.08)
    monkeypatch.setattr(reader_module, "_JOIN_S", 0.2)
    return library


@pytest.fixture
def microphone(library: Library) -> Iterator[Microphone]:
    """Return an open microphone of the scripted library."""
    microphone = Microphone(CONFIG)
    yield microphone
    microphone._reader._closing.set()
    library.script.put(block_of(0))
    microphone.close()


def block_of(value: int) -> Int16Array:
    """Return a block of samples that are all *value*."""
    return np.full(BLOCK, value, np.int16)


def next_block(microphone: Microphone) -> AudioBlock:
    """Return the next block, which must come."""
    block = microphone.read(5.0)
    assert block is not None
    return block


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    deadline_s = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_microphone_samples_are_those_of_the_device(
    library: Library, microphone: Microphone
) -> None:
    """A sample is its 16-bit value over 32768; positions count from 0."""
    library.script.put(np.arange(-256, 256, dtype=np.int16) * 128)

    block = next_block(microphone)

    assert block.first_sample == 0
    assert block.samples.dtype == np.float32
    assert np.array_equal(block.samples, np.arange(-256, 256) * 128 / 32_768)
    assert (microphone.sample_rate, microphone.ended, microphone.overruns) == (RATE, False, 0)


def test_microphone_channel_is_taken_out_of_the_others(library: Library) -> None:
    """Of two channels, the wanted one is heard."""
    library.script.put(block_of(5))
    library.script.put(block_of(6))
    microphone = Microphone(MicrophoneConfig(device="desk", channel=1, sample_rate=RATE))

    block = next_block(microphone)
    library.script.put(block_of(7))
    microphone.close()

    assert block.samples[0] == 105 / 32_768
    assert library.n_open == 0


def test_microphones_of_one_device_share_its_stream(library: Library) -> None:
    """A device is opened once; each machine hears its channel, two may hear the same."""
    left, right, again = (
        Microphone(MicrophoneConfig(device=name, channel=channel, sample_rate=RATE))
        for name, channel in (("desk", 0), ("desk, ALSA", 1), ("desk", 1))
    )
    library.script.put(block_of(5))
    library.script.put(block_of(5))  # the first may have come before all listened
    values = [next_block(one).samples[-1] * 32_768 for one in (left, right, again)]

    left.close()
    right.close()
    n_open = library.n_open
    library.script.put(block_of(6))
    again.close()

    assert values == [5, 105, 105]
    assert len(library.opened_at_s) == 1
    assert (n_open, library.n_open) == (1, 0)


def test_microphone_leaves_those_that_listen_on(library: Library, microphone: Microphone) -> None:
    """A machine that goes takes no sound from the others, and its place can be taken again."""
    other = Microphone(CONFIG)
    other.close()
    other.close()
    late = Microphone(CONFIG)
    library.script.put(block_of(1))
    library.script.put(block_of(2))
    heard, heard_late = next_block(microphone), next_block(late)

    assert other.read(0.0) is None
    assert heard.samples[0] == 1 / 32_768
    assert heard_late.first_sample == 0
    assert (microphone.overruns, late.overruns) == (0, 0)
    library.script.put(block_of(3))
    late.close()


def test_microphone_of_a_further_channel_reopens_a_device_of_many(library: Library) -> None:
    """Of many channels those are opened that are wanted; one more is a gap for the others."""
    library.n_channels = 32
    first = Microphone(CONFIG)
    library.script.put(block_of(1))
    next_block(first)
    second = Microphone(replace(CONFIG, channel=3))
    for _ in range(50):
        library.script.put(block_of(2))

    heard = next_block(second)
    wait_until(lambda: first.overruns == 1)

    assert library.opened_channels == [1, 4]
    assert (heard.first_sample, heard.samples[0]) == (0, 302 / 32_768)
    assert (first.fault, second.fault, second.overruns) == ("", "", 0)
    for one in (first, second):
        library.script.put(block_of(3))
        one.close()


def test_microphone_that_refuses_all_its_channels_is_opened_with_those_wanted(
    library: Library,
) -> None:
    """A device that offers eight channels, but not at this rate, is heard all the same."""
    library.n_channels, library.most_channels = 8, 2

    microphone = Microphone(replace(CONFIG, channel=1))
    library.script.put(block_of(1))
    heard = next_block(microphone)
    library.script.put(block_of(2))
    microphone.close()

    assert library.opened_channels == [8, 2]
    assert heard.samples[0] == 101 / 32_768


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"sample_rate": 44_100}, "microphone.sample_rate=44100 must be 16000"),
        ({"sample_rate": 0}, "microphone.sample_rate=48000 must be 16000"),
        ({"latency_s": 0.5}, "microphone.latency_s=0.5 must be 0.3"),
    ],
)
def test_microphones_of_one_device_must_agree(
    microphone: Microphone, other: dict[str, Any], message: str
) -> None:
    """Two machines cannot want one device differently; the message says what the first has."""
    with pytest.raises(ConfigError) as caught:
        Microphone(replace(CONFIG, **other))

    assert str(caught.value) == (
        f"{message}, as another machine has it for the same device 'desk'; give both the same"
    )
    assert microphone.fault == ""


def test_microphone_without_a_rate_takes_that_of_the_device(library: Library) -> None:
    """Rate 0 opens the device at its own."""
    microphone = Microphone(MicrophoneConfig(device="desk"))
    library.script.put(np.zeros(1_536, np.int16))  # 32 ms at 48 kHz

    microphone.close()

    assert microphone.sample_rate == 48_000


def test_microphone_overflow_is_counted_and_a_gap(
    library: Library, microphone: Microphone, caplog: pytest.LogCaptureFixture
) -> None:
    """Sound lost in the device moves the position on; the log says it once and what helps."""
    library.script.put(block_of(1))
    next_block(microphone)
    for _ in range(2):
        library.script.put((block_of(2), True))
    library.script.put(block_of(3))
    wait_until(lambda: microphone.overruns == 2)

    first, second = next_block(microphone), next_block(microphone)

    assert first.first_sample > BLOCK
    assert second.first_sample > first.first_sample + BLOCK
    assert microphone.fault == ""
    assert caplog.messages == ["microphone 'desk' lost sound; raise microphone.latency_s"]


def test_microphone_unplugged_is_a_fault_until_it_is_back(
    library: Library, microphone: Microphone, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that goes away is found again, and the time without it is a gap."""
    caplog.set_level(logging.INFO)
    library.script.put(block_of(1))
    next_block(microphone)
    lost_at_s = time.monotonic()

    library.plugged_in = False
    library.script.put(PortAudioError("Unanticipated host error", -9999))
    wait_until(lambda: microphone.fault == "no microphone is there; connect one")
    library.plugged_in = True
    for _ in range(200):
        library.script.put(block_of(2))
    block = next_block(microphone)
    away = round((time.monotonic() - lost_at_s) * RATE)

    wait_until(lambda: microphone.fault == "")
    assert 0.02 * 0.75 * RATE <= block.first_sample - BLOCK <= away
    assert block.samples[0] == 2 / 32_768
    assert microphone.overruns == 1
    assert library.n_initialised >= 1
    assert caplog.messages == [
        "microphone 'desk' was lost (Unanticipated host error); looking for it again",
        "microphone 'desk' is back",
    ]


def test_microphone_away_for_long_is_looked_for_less_and_less(
    library: Library, microphone: Microphone
) -> None:
    """Tries come after 1, 2, 4 and then 4 first delays, at least three quarters of each."""
    library.n_channels = 1
    library.refused[RATE] = PortAudioError("Device unavailable", -9985)
    library.script.put(PortAudioError("Unanticipated host error", -9999))

    wait_until(lambda: len(library.opened_at_s) >= 6)
    library.refused.clear()

    waits_s = np.diff(library.opened_at_s[1:6])
    assert np.all(waits_s >= 0.75 * np.array([0.04, 0.08, 0.08, 0.08]))
    assert microphone.fault.startswith("microphone 'desk' cannot be opened (")


def test_microphone_that_fails_at_once_again_is_not_tried_in_a_hurry(
    library: Library, microphone: Microphone
) -> None:
    """The delay grows until sound has come, not only until the device opens."""
    for _ in range(4):
        library.script.put(PortAudioError("Unanticipated host error", -9999))

    wait_until(lambda: len(library.opened_at_s) >= 5)

    assert library.opened_at_s[4] - library.opened_at_s[1] >= 0.75 * (0.04 + 0.08 + 0.08)
    assert microphone.fault != ""


@pytest.mark.usefixtures("microphone")
def test_microphone_of_a_loose_plug_is_not_tried_in_a_hurry(library: Library) -> None:
    """Nor does a moment of sound between two failures make the delays short again."""
    for number in range(4):
        library.script.put(block_of(number))
        library.script.put(PortAudioError("Unanticipated host error", -9999))

    wait_until(lambda: len(library.opened_at_s) >= 5)

    assert library.opened_at_s[4] - library.opened_at_s[1] >= 0.75 * (0.04 + 0.08 + 0.08)


def test_microphone_whose_reading_fails_for_no_known_reason_is_opened_again(
    library: Library, microphone: Microphone, caplog: pytest.LogCaptureFixture
) -> None:
    """No error, whatever it is, ends the thread that reads the device; it is told once."""
    library.script.put(block_of(1))
    next_block(microphone)

    library.script.put(ValueError("a defect"))
    wait_until(lambda: microphone.fault != "")
    fault = microphone.fault
    for _ in range(200):
        library.script.put(block_of(2))

    assert next_block(microphone).samples[0] == 2 / 32_768
    wait_until(lambda: microphone.fault == "")
    assert fault == "reading microphone 'desk' failed; see the log"
    assert caplog.text.count("a defect") == 1
    assert library.n_open == 1


@pytest.mark.parametrize(
    ("target", "name", "failure"),
    [
        (Stream, "start", PortAudioError("Unanticipated host error", -9999)),
        (Stream, "start", MemoryError()),
        (reader_module, "RingBuffer", MemoryError()),
        (threading.Thread, "start", RuntimeError("can't start new thread")),
    ],
)
def test_microphone_that_cannot_be_had_leaves_nothing_open(
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    target: Any,
    name: str,
    failure: Exception,
) -> None:
    """Whatever fails between opening and reading: the device is free, and can be had later."""

    def fail(*_: object, **__: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(target, name, fail)
        with pytest.raises((AudioDeviceError, type(failure))):
            Microphone(CONFIG)

    assert library.n_open == 0
    assert not portaudio._open_streams
    microphone = Microphone(CONFIG)
    library.script.put(block_of(1))
    assert next_block(microphone).first_sample == 0
    microphone._reader._closing.set()
    library.script.put(block_of(0))
    microphone.close()


def test_microphone_stuck_is_a_fault_and_close_returns(
    library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that hangs is reported, and does not hang the program."""
    monkeypatch.setattr(reader_module, "_START_PATIENCE_S", 0.05)
    release = threading.Event()
    library.script.put(release.wait)
    microphone = Microphone(CONFIG)

    wait_until(lambda: microphone.fault != "")
    fault = microphone.fault
    start_s = time.monotonic()
    microphone.close()
    closed_in_s = time.monotonic() - start_s
    release.set()
    microphone._reader._thread.join(60.0)

    assert fault == "microphone 'desk' is open but gives no sound; reconnect it"
    assert closed_in_s < 30.0
    assert caplog.messages == ["microphone 'desk' is stuck and could not be closed"]
    assert library.n_open == 0


def test_microphone_closes_while_another_looks_for_its_device(library: Library) -> None:
    """A list of devices that does not come keeps nobody from letting go of one."""
    first, second = Microphone(CONFIG), queue.Queue[Microphone]()
    asked, release, query_devices = threading.Event(), threading.Event(), library.query_devices

    def hang(kind: str = "") -> Any:
        asked.set()
        release.wait(60.0)
        return query_devices(kind)

    library.query_devices = hang  # type: ignore[method-assign]
    other = replace(CONFIG, device="DESK")
    threading.Thread(target=lambda: second.put(Microphone(other)), daemon=True).start()
    asked.wait(60.0)
    first._reader._closing.set()
    library.script.put(block_of(0))
    first._reader._thread.join(0.5)  # it waits for the other's list, too
    began_s = time.monotonic()
    first.close()
    closed_s = time.monotonic() - began_s
    release.set()
    library.script.put(block_of(5))

    assert closed_s < 30.0
    opened = second.get(timeout=60.0)
    next_block(opened)
    opened._reader._closing.set()
    library.script.put(block_of(0))
    opened.close()


def test_microphone_closed_gives_nothing_more(library: Library) -> None:
    """After `close` there is no sound, not even what had come before."""
    library.script.put(block_of(1))
    library.script.put(block_of(2))
    microphone = Microphone(CONFIG)
    wait_until(library.script.empty)

    library.script.put(block_of(3))
    microphone.close()

    assert microphone.read(5.0) is None


def test_microphone_refused_rate_names_those_to_try(library: Library) -> None:
    """The message lists the usual rates that the device takes."""
    refusal = PortAudioError("Invalid sample rate", -9997)
    library.refused = dict.fromkeys((8_000, 16_000, 22_050, 32_000, 96_000, 192_000), refusal)

    with pytest.raises(AudioDeviceError) as caught:
        Microphone(CONFIG)

    assert str(caught.value) == (
        "microphone.sample_rate=16000 must be a rate that 'desk' takes: 44100, 48000"
    )


def test_microphone_busy_at_the_start_is_refused(library: Library) -> None:
    """A device that another program holds is an error at the start."""
    library.refused[RATE] = PortAudioError("Device unavailable")

    with pytest.raises(AudioDeviceError) as caught:
        Microphone(CONFIG)

    assert str(caught.value) == (
        "microphone 'desk' cannot be opened (Device unavailable); end other programs that use it"
    )


def test_microphone_channel_beyond_the_device_is_refused(library: Library) -> None:
    """A channel that the device does not have is an error at the start."""
    del library

    with pytest.raises(AudioDeviceError, match=r"^microphone\.channel=2 must be from 0 to 1, "):
        Microphone(MicrophoneConfig(device="desk", channel=2))


def test_refresh_while_a_stream_is_open_does_nothing(library: Library) -> None:
    """The library is initialised anew only when that ends nobody's stream."""
    stream = InputStream(CONFIG, RATE)

    refresh()
    n_while_open = library.n_initialised
    stream.close()
    refresh()

    assert n_while_open == 0
    assert library.n_initialised == 1


def test_list_devices_leaves_out_a_card_that_was_exchanged(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a card that is now another's opens nothing until the list is made anew."""
    monkeypatch.setattr(devices_module, "SOUND_CLASS", tmp_path / "class/sound")
    monkeypatch.setattr(portaudio, "_cards", None)
    library.name = "Codec: USB Audio (hw:1,0)"
    plug_in(tmp_path, 1, "0000:00:14.0/usb1/1-4", idVendor="0d8c", idProduct="0014")
    (before,) = list_devices()

    (tmp_path / "class/sound/card1").unlink()
    plug_in(tmp_path, 1, "0000:00:14.0/usb1/1-3", idVendor="1b3f", idProduct="2008")
    exchanged = list_devices()
    refresh()
    (after,) = list_devices()

    assert (before.usb_path, before.usb_id) == ("usb:0000:00:14.0-4", "usb-id:0d8c:0014")
    assert exchanged == []
    assert (after.usb_path, after.usb_id) == ("usb:0000:00:14.0-3", "usb-id:1b3f:2008")


def test_list_devices_gives_inputs_only(library: Library) -> None:
    """Outputs are left out, and without a default input none is marked."""
    del library

    devices = list_devices()

    assert [(device.full_name, device.is_default) for device in devices] == [("desk, ALSA", False)]


def test_measure_level_of_a_tone_is_its_power(library: Library) -> None:
    """A sine of half of full scale, on a constant, has -9.03 dB."""
    times = np.arange(1_536) / 48_000
    tone = 16_384 * np.sin(2.0 * np.pi * 1_000.0 * times) + 3_000
    for _ in range(30):
        library.script.put(tone.astype(np.int16))

    level_db = measure_level("desk", 0.5)

    assert level_db == pytest.approx(20.0 * math.log10(0.5 / math.sqrt(2.0)), abs=0.01)


@pytest.mark.parametrize("value", [0, 77])
def test_measure_level_of_a_dead_input_is_none(library: Library, value: int) -> None:
    """An input that gives one value only has no level."""
    for _ in range(30):
        library.script.put(np.full(1_536, value, np.int16))

    assert measure_level("desk", 0.5) is None
