"""A channel of a sound input of this computer as a source of sound."""

from __future__ import annotations

import threading

import numpy as np

from edgeasd.capture.microphone.reader import DeviceReader, Tap
from edgeasd.capture.microphone.search import Search
from edgeasd.common.config.keys import MicrophoneConfig
from edgeasd.common.types import INT16_FULL_SCALE, AudioBlock

# A device can be opened once only: machines that listen to the same one share its reader.  Opening
# one can take long, and whoever closes another must not have to wait for that.
_opening = threading.Lock()
_lock = threading.Lock()
_readers: list[DeviceReader] = []


class Microphone:
    """A channel of a sound input as an `AudioSource`; one input may have several.

    The time for which a device was away is a gap: the position moves on by the number of samples
    that were lost by the computer's clock.  The device's own clock is not corrected; it may drift
    from the computer's by some 0.01 %, see `drift_ppm`.

    Args:
        config: Name of the input, its channel, rate and latency.
        search: Looks for the input now; None looks once.

    Raises:
        AudioDeviceError: If the input is not there, or refuses to open; the message lists the
            inputs that there are.
        ConfigError: If another machine listens to the same input at another rate or latency.
    """

    ended = False

    def __init__(self, config: MicrophoneConfig, search: Search | None = None) -> None:
        self._reader, self._tap = _listen(config, search)
        self.sample_rate = self._reader.sample_rate
        self._closed = threading.Event()

    @property
    def overruns(self) -> int:
        """How often sound was lost: in the device, by a reader that fell behind, by unplugging."""
        return self._tap.ring.overruns

    @property
    def fault(self) -> str:
        """Why there is no sound now, for people to read; empty when all is well."""
        return self._reader.fault

    @property
    def hung(self) -> bool:
        """Whether the device is open and gives no sound: only a restart may help."""
        return self._reader.hung

    @property
    def late_s(self) -> float:
        """Seconds for which sound that is there has waited to be read."""
        return self._tap.ring.n_unread / self.sample_rate

    @property
    def drift_ppm(self) -> float:
        """Parts per million by which the device's clock is fast; NaN until known."""
        return self._reader.drift_ppm

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return what came since the last call, at most 1 s; None if nothing within *timeout_s*."""
        result = self._tap.ring.read(self.sample_rate, timeout_s)
        if result is None or self._closed.is_set():
            return None
        samples, first_sample = result
        return AudioBlock(samples.astype(np.float32) / np.float32(INT16_FULL_SCALE), first_sample)

    def close(self) -> None:
        """Listen no more; the last one lets go of the device, within 2 s even if it is stuck."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._tap.ring.close()
        with _lock:
            self._reader.leave(self._tap)
            is_last = self._reader.is_idle
            if is_last:
                _readers.remove(self._reader)
        if is_last:
            self._reader.close()


def _listen(config: MicrophoneConfig, search: Search | None) -> tuple[DeviceReader, Tap]:
    with _opening:
        with _lock:
            readers = tuple(_readers)
        # Without the lock: asking a reader what it reads can take as long as opening a device.
        shared = next((reader for reader in readers if reader.reads(config.device)), None)
        with _lock:
            if shared in _readers:
                return shared, shared.listen(config)
        reader = DeviceReader(config, search)
        try:
            tap = reader.listen(config)
            reader.start()
        except BaseException:  # no memory, or no thread, for one more
            reader.give_up()
            raise
        with _lock:
            _readers.append(reader)
        return reader, tap
