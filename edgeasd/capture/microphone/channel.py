"""A channel of a sound input of this computer as a source of sound."""

from __future__ import annotations

import threading

import numpy as np

from edgeasd.capture.microphone.reader import DeviceReader, Tap
from edgeasd.capture.microphone.search import Search
from edgeasd.common.config import MicrophoneConfig
from edgeasd.common.types import INT16_FULL_SCALE, AudioBlock

# A device can be opened once: machines that listen to the same one share its reader.  To open one
# can take long, and nobody who closes another may have to wait for it.
_opening = threading.Lock()
_lock = threading.Lock()
_readers: list[DeviceReader] = []


class Microphone:
    """A channel of a sound input as an `AudioSource`; of one input there can be several.

    The time without sound of a device that went away is a gap: the position moves on by as many
    samples as the clock says were lost.  The device's own clock is not corrected: it may drift from
    the computer's by some 0.01 %, see `drift_ppm`.

    Args:
        config: The input, its channel, rate and latency.
        search: Looks for it now; None looks once.

    Raises:
        AudioDeviceError: If the input is not there at the start or refuses to open; the message
            lists what could be taken instead.
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
        """For how long sound that is there has waited to be read, seconds."""
        return self._tap.ring.n_unread / self.sample_rate

    @property
    def drift_ppm(self) -> float:
        """By how many millionths the device's clock is fast; NaN until known."""
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
        # Without the lock: to ask what it reads can take as long as to open a device.
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
