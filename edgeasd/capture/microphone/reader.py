"""Reads one device for all that listen to it.

A thread reads the device, blocking, into a ring for each listener.  In callback mode PortAudio
hides a device that went away, and systemd's ``MemoryDenyWriteExecute=yes`` forbids callbacks.

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
from edgeasd.capture.microphone.continuity import Continuity
from edgeasd.capture.microphone.devices import check_channel, find_device
from edgeasd.capture.microphone.portaudio import InputStream, list_devices, restarting
from edgeasd.capture.microphone.search import Search
from edgeasd.capture.ringbuffer import RingBuffer
from edgeasd.common.config import MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError, ConfigError
from edgeasd.common.types import Int16Array

_log = logging.getLogger(__name__)

_RING_S = 10.0
_START_PATIENCE_S = 5.0  # for the first block
_PATIENCE_S = 2.0  # for all others, beside the latency
_JOIN_S = 2.0
_OVERFLOW_LOG_EVERY_S = 60.0


@dataclass(slots=True, eq=False)
class Tap:
    """Where one channel goes.

    Attributes:
        channel: Counted from 0.
        ring: Takes its samples.
        heard: Whether it has any yet; what was lost before is no gap.
    """

    channel: int
    ring: RingBuffer
    heard: bool = False

    def take(self, samples: Int16Array, n_lost: int) -> None:
        """Take the channel out of *samples*, shape ``(n_samples, n_channels)``."""
        if n_lost > 0 and self.heard:
            self.ring.mark_gap(n_lost)
        self.heard = True
        self.ring.write(samples[:, self.channel])


class DeviceReader:
    """A thread that reads a device until it is closed.

    A device that goes away is looked for again, see `Search`.

    Args:
        config: Of the first that listens.
        search: Looks for it now; None looks once, in PortAudio's list as it is.

    Attributes:
        device: What it reads.
        sample_rate: Hertz.

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
        # Of the call to read that the thread is in, if it is in one.
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
        """By how many millionths the device's clock is fast; NaN until known."""
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
        """Let go of the device in place of `start`."""
        self._first.close()

    def reads(self, wanted: str) -> bool:
        """Return whether this reads the input that the configuration calls *wanted*."""
        if wanted == self._config.device:
            return True
        with suppress(AudioDeviceError):
            return find_device(wanted, list_devices()).full_name == self.device.full_name
        return False

    def listen(self, config: MicrophoneConfig) -> Tap:
        """Return a new tap of the channel of *config*; reads it with the next block, or soon.

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
        """Let go of the device; returns after 2 s even if it is stuck."""
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
            except Exception:  # noqa: BLE001  # without this thread the device is never heard again
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
                for tap in taps:
                    tap.take(samples, n_lost)

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
