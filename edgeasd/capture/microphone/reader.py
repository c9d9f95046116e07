"""Reads one device for everything that listens to it.

A thread reads the device, blocking, into a ring for each listener.  Callbacks are no choice: with
them PortAudio hides that a device went away, and systemd's ``MemoryDenyWriteExecute=yes`` forbids
them.

A device that is *stuck* raises nothing and cannot be closed: reading it, stopping it and leaving
Python in the usual way all hang.  `DeviceReader.hung` says so; only ``os._exit`` ends the process.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace

from edgeasd.capture.microphone.clock_drift import ClockDriftMeter
from edgeasd.capture.microphone.devices import check_channel, find_device
from edgeasd.capture.microphone.portaudio import InputStream, list_devices, restarting
from edgeasd.capture.microphone.search import Search
from edgeasd.capture.ringbuffer import RingBuffer
from edgeasd.common.config.keys import MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError, ConfigError
from edgeasd.common.types import Int16Array

_log = logging.getLogger(__name__)

_RING_S = 10.0
"""Seconds of sound that wait for a scorer that falls behind."""
_START_PATIENCE_S = 5.0
"""Seconds after which a read of the first block counts as hung."""
_PATIENCE_S = 2.0
"""Seconds, beside the latency, after which a read of any other block counts as hung."""
_JOIN_S = 2.0
"""Seconds that closing waits for the thread, which a stuck device never lets go of."""
_OVERFLOW_LOG_EVERY_S = 60.0
"""Seconds between two warnings that sound was lost in the device."""


@dataclass(slots=True, eq=False)
class Tap:
    """One channel and the ring that its samples go to.

    Attributes:
        channel: Channel, counted from 0.
        ring: Takes the samples of the channel.
        heard: Whether it has any samples yet; sound that was lost before them is no gap.
    """

    channel: int
    ring: RingBuffer
    heard: bool = False


class Continuity:
    """Finds how many samples are lost before each block of a device that is read block by block.

    A device that stalled may have lost the sound of that time, or deliver it late and all at once,
    as PulseAudio does.  After a stall, blocks are dropped until a read blocks again, which shows
    that the backlog is drained: so a position always tells the time.

    Args:
        sample_rate: Sample rate, hertz.
        patience_s: Seconds; a longer wait for a block means that the device stalled.
        now_s: Time now, by any clock that does not jump, seconds.
    """

    def __init__(self, sample_rate: int, patience_s: float, now_s: float) -> None:
        self._sample_rate = sample_rate
        self._patience_s = patience_s
        self._kept_s = now_s
        self._n_dropped = 0
        self._catching_up = False

    def n_lost_before(
        self, n_samples: int, asked_s: float, now_s: float, *, lost: bool
    ) -> int | None:
        """Return how many samples are lost before the block of *n_samples* that was just read.

        Args:
            n_samples: Length of the block.
            asked_s: Time before the read, seconds.
            now_s: Time after the read, seconds.
            lost: Whether the device says that sound was lost, or was opened anew.

        Returns:
            0 if the block follows the last one that was kept; None if it is late and to be dropped.
        """
        waited_s = now_s - asked_s
        stood_still = lost or waited_s > self._patience_s
        if not stood_still and not self._catching_up:
            self._kept_s = now_s
            return 0
        n_passed = round((now_s - self._kept_s) * self._sample_rate)
        of_now = not stood_still and waited_s > n_samples / self._sample_rate / 2.0
        # There cannot be more late sound than time has passed.
        self._catching_up = not of_now and self._n_dropped + n_samples < n_passed
        if self._catching_up:
            self._n_dropped += n_samples
            return None
        self._kept_s = now_s
        self._n_dropped = 0
        return max(1, n_passed - n_samples)


class DeviceReader:
    """A thread that reads a device until it is closed.

    A device that goes away is looked for again, see `Search`.

    Args:
        config: Configuration of the first microphone that listens to it.
        search: Looks for the device now; None looks once, in PortAudio's list as it is.

    Attributes:
        device: Device that it reads.
        sample_rate: Sample rate of the device, hertz.

    Raises:
        AudioDeviceError: If the input is not there or refuses to open; the message lists what could
            be taken instead.
    """

    def __init__(self, config: MicrophoneConfig, search: Search | None = None) -> None:
        self._config = config
        self._search = Search()
        self._first = (search or self._search).open(config, config.sample_rate)
        self.device = self._first.device
        self.sample_rate = self._first.sample_rate
        self._taps: tuple[Tap, ...] = ()
        self._reopened = False
        # When the read that the thread waits for began; None between two reads.
        self._called_s: float | None = None
        self._patience_s = _START_PATIENCE_S
        self._drift = ClockDriftMeter(self.sample_rate)
        self._continuity = Continuity(
            self.sample_rate, _PATIENCE_S + config.latency_s, time.monotonic()
        )
        self._last_overflow_s = -math.inf
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"microphone {self.device.name}", daemon=True
        )

    @property
    def fault(self) -> str:
        """Why there is no sound now, for people to read; empty when all is well."""
        if self.hung and not self._search.fault:
            return f"microphone {self.device.name!r} is open but gives no sound; reconnect it"
        return self._search.fault

    @property
    def hung(self) -> bool:
        """Whether the library does not return: only a restart of the process may help."""
        called_s = self._called_s
        is_stuck = called_s is not None and time.monotonic() - called_s >= self._patience_s
        return is_stuck or self._search.hung

    @property
    def drift_ppm(self) -> float:
        """Parts per million by which the device's clock is fast; NaN until known."""
        return self._drift.ppm

    @property
    def is_idle(self) -> bool:
        """Whether nobody listens."""
        return not self._taps

    def start(self) -> None:
        """Begin to read."""
        self._called_s = time.monotonic()
        self._thread.start()

    def give_up(self) -> None:
        """Let go of the device instead of starting to read it."""
        self._first.close()

    def reads(self, wanted: str) -> bool:
        """Return whether this reads the input that the configuration calls *wanted*."""
        if wanted == self._config.device:
            return True
        with suppress(AudioDeviceError):
            return find_device(wanted, list_devices()).full_name == self.device.full_name
        return False

    def listen(self, config: MicrophoneConfig) -> Tap:
        """Return a new tap for the channel of *config*, which gets sound from the next block on.

        One thread at a time calls this and `leave`.

        Raises:
            ConfigError: If *config* wants another rate or latency than those who listen already.
            AudioDeviceError: If the device has no such channel.
        """
        rate = config.sample_rate or self.device.sample_rate
        for key, wanted, actual in (
            ("sample_rate", rate, self.sample_rate),
            ("latency_s", config.latency_s, self._config.latency_s),
        ):
            if wanted != actual:
                raise ConfigError(
                    f"microphone.{key}={wanted:g} must be {actual:g}, as another machine has it "
                    f"for the same device {self.device.name!r}; give both the same"
                )
        check_channel(config.channel, self.device)
        tap = Tap(config.channel, RingBuffer(round(_RING_S * self.sample_rate)))
        self._taps = (*self._taps, tap)
        return tap

    def leave(self, tap: Tap) -> None:
        """Take no more sound for *tap*."""
        self._taps = tuple(other for other in self._taps if other is not tap)

    def close(self) -> None:
        """Let go of the device; return after 2 s even if it is stuck."""
        self._closing.set()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            _log.warning("microphone %r is stuck and could not be closed", self.device.name)

    def _run(self) -> None:
        stream: InputStream | None = self._first
        while stream is not None:
            try:
                self._pump(stream)
            except AudioDeviceError as exc:
                self._search.lose(str(exc))
                _log.warning("%s; looking for it again", exc)
            except Exception:  # noqa: BLE001  # without this thread nobody hears the device again
                _log.exception("reading microphone %r failed; opening it again", self.device.name)
                self._search.lose(f"reading microphone {self.device.name!r} failed; see the log")
            stream.close()
            stream = self._reopen()

    def _pump(self, stream: InputStream) -> None:
        self._patience_s = _START_PATIENCE_S
        while not (self._closing.is_set() or restarting()):
            asked_s = self._called_s = time.monotonic()
            samples, overflowed = stream.read()
            now_s = time.monotonic()
            taps = self._taps
            if any(tap.channel >= stream.n_channels for tap in taps):
                return
            self._patience_s = _PATIENCE_S + self._config.latency_s
            n_lost = self._continuity.n_lost_before(
                len(samples), asked_s, now_s, lost=overflowed or self._reopened
            )
            self._reopened = False
            self._report(now_s, overflowed=overflowed)
            if n_lost != 0:
                self._drift.reset()
            if n_lost is not None:
                self._drift.count(len(samples), now_s)
                self._distribute(samples, n_lost, taps)

    @staticmethod
    def _distribute(samples: Int16Array, n_lost: int, taps: tuple[Tap, ...]) -> None:
        """Write each channel that is listened to into its ring.

        Args:
            samples: Shape ``(n_samples, n_channels)``.
            n_lost: Samples that were lost before them.
            taps: Channels and rings.
        """
        for tap in taps:
            if n_lost > 0 and tap.heard:
                tap.ring.mark_gap(n_lost)
            tap.heard = True
            tap.ring.write(samples[:, tap.channel])

    def _report(self, now_s: float, *, overflowed: bool) -> None:
        if self._search.fault:
            _log.info("microphone %r is back", self.device.name)
        self._search.settle()
        if overflowed and now_s - self._last_overflow_s > _OVERFLOW_LOG_EVERY_S:
            self._last_overflow_s = now_s
            _log.warning("microphone %r lost sound; raise microphone.latency_s", self.device.name)

    def _reopen(self) -> InputStream | None:
        self._called_s = None
        stream = self._search.repeat(self._open, self._closing)
        if stream is not None:
            self.device = stream.device
            self._reopened = True
        return stream

    def _open(self) -> InputStream:
        channel = max((tap.channel for tap in self._taps), default=self._config.channel)
        return self._search.open(replace(self._config, channel=channel), self.sample_rate)
