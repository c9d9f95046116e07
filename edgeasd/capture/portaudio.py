"""The audio library: its devices, its streams, its errors.  No other module talks to it.

PortAudio is loaded when first used.  It is not thread-safe, and its list of devices is that of its
initialisation.  A new initialisation ends all streams of the process, so that is done only while
none is open.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeasd.capture.devices import InputDevice, check_channel, find_device
from edgeasd.errors import AudioDeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeasd.config import MicrophoneConfig
    from edgeasd.stream import Int16Array

_BLOCK_S = 0.032

_INVALID_SAMPLE_RATE = -9997  # paInvalidSampleRate
_USUAL_RATES = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)

_lock = threading.Lock()
_open_streams: set[InputStream] = set()


def list_devices() -> list[InputDevice]:
    """Return the sound inputs of this computer, as they were when the library was initialised.

    Raises:
        AudioDeviceError: If the audio library is missing.
    """
    with _lock, _translated("the sound inputs cannot be listed"):
        return _query_devices()


def refresh() -> None:
    """Look for devices that came or went, unless a stream is open.

    Raises:
        AudioDeviceError: If the audio library is missing or cannot be initialised.
    """
    with _lock, _translated("the audio library cannot be initialised"):
        library = _sounddevice()
        if _open_streams:
            return
        if library._initialized:  # noqa: SLF001 - there is no public way
            library._terminate()  # noqa: SLF001
        library._initialize()  # noqa: SLF001


class InputStream:
    """An input that is open and running, of which one channel is wanted; reading blocks.

    Attributes:
        device_name: Name of the device.
        sample_rate: Hertz.

    Args:
        config: The input, and its channel and latency.
        sample_rate: Hertz; 0 for the device's own.

    Raises:
        AudioDeviceError: If there is no such device, or it refuses; the message names the remedy.
    """

    def __init__(self, config: MicrophoneConfig, sample_rate: int) -> None:
        self._channel = config.channel
        with _lock, _translated("the sound inputs cannot be listed"):
            device = find_device(config.device, _query_devices())
            check_channel(config.channel, device)
            self.device_name = device.name
            self.sample_rate = sample_rate or device.sample_rate
            self._stream = _open(config, device, self.sample_rate)
            _open_streams.add(self)
        self._n_samples = round(_BLOCK_S * self.sample_rate)

    def read(self) -> tuple[Int16Array, bool]:
        """Wait for the next 32 ms of the channel.

        Returns:
            Shape ``(n_samples,)``, and whether sound before them was lost.

        Raises:
            AudioDeviceError: If the device went away.
        """
        with _translated(f"microphone {self.device_name!r} was lost"):
            interleaved, overflowed = self._stream.read(self._n_samples)
        samples = np.frombuffer(interleaved, np.int16).reshape(self._n_samples, -1)
        return samples[:, self._channel], overflowed

    def close(self) -> None:
        """Let go of the device, in the thread that reads it; hangs if the device is stuck."""
        # Stopping is what hangs.  Without the lock it hangs this thread only, and the stream still
        # counts as open.
        self._stream.abort()
        with _lock:
            self._stream.close()
            _open_streams.discard(self)


def _sounddevice() -> Any:
    try:
        import sounddevice  # noqa: PLC0415, TID251 - loads a library that servers do not have
    except OSError as exc:
        raise AudioDeviceError(
            "the audio library PortAudio is missing; install the package libportaudio2"
        ) from exc
    return sounddevice


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn an error of the library into one of ours."""
    library = _sounddevice()
    try:
        yield
    except library.PortAudioError as exc:
        raise AudioDeviceError(f"{what} ({exc})") from exc


def _query_devices() -> list[InputDevice]:
    library = _sounddevice()
    host_apis = library.query_hostapis()
    inputs = [device for device in library.query_devices() if device["max_input_channels"] > 0]
    default = None
    with suppress(library.PortAudioError):  # it has no other way to say that there is none
        default = library.query_devices(kind="input")["index"]
    return [
        InputDevice(
            index=device["index"],
            name=device["name"],
            host_api=host_apis[device["hostapi"]]["name"],
            n_channels=device["max_input_channels"],
            sample_rate=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in inputs
    ]


def _open(config: MicrophoneConfig, device: InputDevice, sample_rate: int) -> Any:
    library = _sounddevice()
    n_channels = config.channel + 1
    try:
        stream = library.RawInputStream(
            device=device.index,
            channels=n_channels,
            samplerate=sample_rate,
            dtype="int16",
            latency=config.latency_s,
        )
        stream.start()
    except library.PortAudioError as exc:
        if exc.args[1:2] == (_INVALID_SAMPLE_RATE,):
            rates = ", ".join(map(str, _accepted_rates(device, n_channels))) or "none that is usual"
            raise AudioDeviceError(
                f"microphone.sample_rate={sample_rate} must be a rate "
                f"that {device.name!r} takes: {rates}"
            ) from exc
        raise AudioDeviceError(
            f"microphone {device.name!r} cannot be opened ({exc}); end other programs that use it"
        ) from exc
    return stream


def _accepted_rates(device: InputDevice, n_channels: int) -> Iterator[int]:
    library = _sounddevice()
    for rate in _USUAL_RATES:
        with suppress(library.PortAudioError):
            library.check_input_settings(device.index, n_channels, "int16", samplerate=rate)
            yield rate
