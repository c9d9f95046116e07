"""The audio library: its devices, its streams, its errors.  No other module talks to it.

PortAudio is loaded when first used.  It is not thread-safe, and its list of devices is that of its
initialisation.  A new initialisation ends all streams of the process, so that is done only while
none is open; `restart` has them all closed for it.

Inputs of PortAudio's own JACK interface are left out: read without callbacks it takes every stream
for one of two channels of 32-bit numbers and writes past its buffers if it is another (19.6), and
tells of no lost sound.  ALSA's input ``jack`` leads to the same server.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeasd.capture.microphone import devices
from edgeasd.capture.microphone.devices import (
    Card,
    InputDevice,
    card_number,
    card_of,
    check_channel,
    find_device,
    read_cards,
)
from edgeasd.common.errors import AudioDeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeasd.common.config.keys import MicrophoneConfig
    from edgeasd.common.types import Int16Array

_BLOCK_S = 0.032
"""Seconds of sound in a block."""
_ALL_CHANNELS_UP_TO = 8
"""Channels up to which all of a device are opened: another machine can then join without a gap."""
_RESTART_S = 10.0
"""Seconds that a restart waits for all streams to be closed."""
_LEAVE_S = 2.0
"""Seconds that the end of the process waits for a thread that is in the library."""
_POLL_S = 0.01

_LOOK = """
import sys
from edgeasd.capture.microphone.devices import find_device
from edgeasd.capture.microphone.portaudio import list_devices
find_device(sys.argv[1], list_devices())
"""

_INVALID_SAMPLE_RATE = -9997  # paInvalidSampleRate
_USUAL_RATES = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)

_lock = threading.Lock()
_open_streams: set[InputStream] = set()
_restart_lock = threading.Lock()
_settled = threading.Event()
_settled.set()
_cards: dict[int, Card] | None = None
"""Sound cards as they were when the library was initialised; None before that."""


def list_devices() -> list[InputDevice]:
    """Return the sound inputs of this computer, as they were when the library was initialised.

    Those whose card was unplugged or exchanged since are left out.

    Raises:
        AudioDeviceError: If the audio library is missing.
    """
    with _lock, _translated("the sound inputs cannot be listed"):
        return _query_devices()


def finds_anew(wanted: str, timeout_s: float = _RESTART_S) -> bool:
    """Return whether a process that starts now finds the input *wanted*.

    This tells what a new initialisation would bring, without ending any stream.
    """
    command = [sys.executable, "-c", _LOOK, wanted]
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a sound server that hangs
        return False
    return done.returncode == 0


def refresh() -> bool:
    """Initialise the library anew, to see devices that came or went, unless a stream is open.

    If a JACK server has gone that was there at the last initialisation, PortAudio 19.6 aborts the
    process here; the service manager starts it again.

    Returns:
        Whether the library was initialised anew.

    Raises:
        AudioDeviceError: If the audio library is missing or cannot be initialised.
    """
    global _cards  # noqa: PLW0603 - as the library, there is one in a process
    with _lock, _translated("the audio library cannot be initialised"):
        library = _sounddevice()
        if _open_streams:
            return False
        if library._initialized:  # noqa: SLF001 - there is no public way
            library._terminate()  # noqa: SLF001
        _cards = read_cards(devices.SOUND_CLASS)
        library._initialize()  # noqa: SLF001
        return True


def restart() -> None:
    """Have all streams closed, and look for devices anew; give up after 10 s.

    Whoever reads an `InputStream` must ask `restarting` after each block, then close the stream
    and open another one, which waits until this is done.
    """
    with _restart_lock:
        _settled.clear()
        try:
            deadline_s = time.monotonic() + _RESTART_S
            while not refresh() and time.monotonic() < deadline_s:
                time.sleep(_POLL_S)
        finally:
            _settled.set()


def restarting() -> bool:
    """Return whether all streams must be closed so that a device that came can be listed."""
    return not _settled.is_set()


class InputStream:
    """An input that is open and running; reading blocks.

    Attributes:
        device: Device that it reads.
        sample_rate: Sample rate, hertz.
        n_channels: Channels that it delivers.

    Args:
        config: Name of the input, the last channel that is wanted, and the latency.
        sample_rate: Sample rate, hertz; 0 for the device's own.

    Raises:
        AudioDeviceError: If there is no such device, or it refuses; the message names the remedy.
    """

    def __init__(self, config: MicrophoneConfig, sample_rate: int) -> None:
        _settled.wait(_RESTART_S)
        with _lock, _translated("the sound inputs cannot be listed"):
            self.device = find_device(config.device, _query_devices())
            check_channel(config.channel, self.device)
            self.sample_rate = sample_rate or self.device.sample_rate
            self.n_channels, self._stream = self._open_most(config)
            _open_streams.add(self)
        self._n_samples = round(_BLOCK_S * self.sample_rate)

    def read(self) -> tuple[Int16Array, bool]:
        """Wait for the next block of 32 ms.

        Returns:
            Shape ``(n_samples, n_channels)``, and whether sound before them was lost.

        Raises:
            AudioDeviceError: If the device went away.
        """
        with _translated(f"microphone {self.device.name!r} was lost"):
            interleaved, overflowed = self._stream.read(self._n_samples)
        return np.frombuffer(interleaved, np.int16).reshape(self._n_samples, -1), overflowed

    def close(self) -> None:
        """Let go of the device, in the thread that reads it; hangs if the device is stuck."""
        # Stopping may hang.  Without the lock only this thread hangs then, and the stream still
        # counts as open.
        self._stream.abort()
        with _lock:
            self._stream.close()
            _open_streams.discard(self)

    def _open_most(self, config: MicrophoneConfig) -> tuple[int, Any]:
        offered, fewest = self.device.n_channels, config.channel + 1
        if fewest < offered <= _ALL_CHANNELS_UP_TO:
            with suppress(AudioDeviceError):  # some offer all channels at other rates only
                return offered, self._open(offered, config.latency_s)
        return fewest, self._open(fewest, config.latency_s)

    def _open(self, n_channels: int, latency_s: float) -> Any:
        library = _sounddevice()
        name = self.device.name
        try:
            stream = library.RawInputStream(
                device=self.device.index,
                channels=n_channels,
                samplerate=self.sample_rate,
                dtype="int16",
                latency=latency_s,
            )
            try:
                stream.start()
            except BaseException:
                # A stream left open would hold the device, and keep the list of devices as it is.
                stream.close()
                raise
        except library.PortAudioError as exc:
            if exc.args[1:2] == (_INVALID_SAMPLE_RATE,):
                rates = ", ".join(map(str, self._accepted_rates(n_channels)))
                rates = rates or "none that is usual"
                raise AudioDeviceError(
                    f"microphone.sample_rate={self.sample_rate} must be a rate "
                    f"that {name!r} takes: {rates}"
                ) from exc
            raise AudioDeviceError(
                f"microphone {name!r} cannot be opened ({exc}); end other programs that use it"
            ) from exc
        return stream

    def _accepted_rates(self, n_channels: int) -> Iterator[int]:
        library = _sounddevice()
        asked = (self.device.index, n_channels, "int16")
        for rate in _USUAL_RATES:
            with suppress(library.PortAudioError):
                library.check_input_settings(*asked, samplerate=rate)
                yield rate


def _sounddevice() -> Any:
    try:
        is_first = "sounddevice" not in sys.modules
        import sounddevice  # noqa: PLC0415, TID251 - loads a library that servers do not have
    except OSError as exc:
        raise AudioDeviceError(
            "the audio library PortAudio is missing; install the package libportaudio2"
        ) from exc
    if is_first:
        # This is called at exit before the library's own function, which was registered earlier
        # and crashes the process if another thread is in the library.
        atexit.register(_lock.acquire, timeout=_LEAVE_S)
    return sounddevice


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Raise errors of the library as `AudioDeviceError`."""
    library = _sounddevice()
    try:
        yield
    except library.PortAudioError as exc:
        raise AudioDeviceError(f"{what} ({exc})") from exc


def _query_devices() -> list[InputDevice]:
    global _cards  # noqa: PLW0603 - as in `refresh`
    library = _sounddevice()
    cards = read_cards(devices.SOUND_CLASS)
    if _cards is None:
        _cards = cards
    # By the name of a card that was exchanged, the new card would be opened.
    exchanged = {number for number in _cards | cards if _cards.get(number) != cards.get(number)}
    host_apis = [api["name"] for api in library.query_hostapis()]
    default = None
    with suppress(library.PortAudioError):  # it has no other way to say that there is none
        default = library.query_devices(kind="input")["index"]
    return [
        _input_device(device, host_apis[device["hostapi"]], cards, default)
        for device in library.query_devices()
        if device["max_input_channels"] > 0
        and not host_apis[device["hostapi"]].startswith("JACK")
        and card_number(device["name"]) not in exchanged
    ]


def _input_device(
    device: dict[str, Any], host_api: str, cards: dict[int, Card], default: int | None
) -> InputDevice:
    card = card_of(device["name"], cards)
    return InputDevice(
        index=device["index"],
        name=device["name"],
        host_api=host_api,
        n_channels=device["max_input_channels"],
        sample_rate=round(device["default_samplerate"]),
        is_default=device["index"] == default,
        usb_path=card.usb_path,
        usb_id=card.usb_id,
    )
