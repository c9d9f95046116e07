"""A sound input of this computer as a source of sound.

A thread reads the device, blocking, into a ring.  In callback mode PortAudio hides a device that
went away, and systemd's ``MemoryDenyWriteExecute=yes`` forbids callbacks.

A device that is *stuck* raises nothing and cannot be closed: reading it, stopping it and leaving
Python in the usual way all hang.  `Microphone.fault` says so; only ``os._exit`` ends the process.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time

import numpy as np

from edgeasd.capture.continuity import Continuity
from edgeasd.capture.portaudio import InputStream, refresh
from edgeasd.capture.ringbuffer import RingBuffer
from edgeasd.config import MicrophoneConfig
from edgeasd.errors import AudioDeviceError
from edgeasd.stream import INT16_FULL_SCALE, AudioBlock

_log = logging.getLogger(__name__)

_RING_S = 10.0
_START_PATIENCE_S = 5.0  # for the first block
_PATIENCE_S = 2.0  # for all others, beside the latency
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_JOIN_S = 2.0
_OVERFLOW_LOG_EVERY_S = 60.0


def measure_level(device: str, duration_s: float, channel: int = 0) -> float | None:
    """Listen to a sound input and return its level.

    Args:
        device: As ``microphone.device`` of the configuration.
        duration_s: How long to listen.
        channel: Counted from 0.

    Returns:
        Root mean square without its constant part, dB re full scale; None if the input gave no
        sound, or one value only.

    Raises:
        AudioDeviceError: If the input cannot be opened.
    """
    microphone = Microphone(MicrophoneConfig(device=device, channel=channel))
    pieces = [np.empty(0, np.float32)]
    n_missing = round(duration_s * microphone.sample_rate)
    while n_missing > 0 and (block := microphone.read(_START_PATIENCE_S)) is not None:
        pieces.append(block.samples[:n_missing])
        n_missing -= pieces[-1].size
    microphone.close()
    samples = np.concatenate(pieces).astype(np.float64)
    power = float(np.var(samples)) if samples.size else 0.0
    return 10.0 * math.log10(power) if power > 0.0 else None


class Microphone:
    """A sound input as an `AudioSource`.

    A device that goes away is looked for again, after 0.5 s at first and 30 s at last.  The time
    without sound is a gap: the position moves on by as many samples as the clock says were lost.
    The device's own clock is not corrected: it may drift from the computer's by some 0.01 %.

    Raises:
        AudioDeviceError: If the input is not there at the start or refuses to open; the message
            lists what could be taken instead.
    """

    ended = False

    def __init__(self, config: MicrophoneConfig) -> None:
        self._config = config
        stream = InputStream(config, config.sample_rate)
        self.sample_rate = stream.sample_rate
        self._name = stream.device_name
        self._ring = RingBuffer(round(_RING_S * self.sample_rate))
        self._lost = ""
        self._delay_s = _FIRST_DELAY_S
        self._last_sound_s = time.monotonic()
        self._patience_s = _START_PATIENCE_S
        self._continuity = Continuity(
            self.sample_rate, _PATIENCE_S + config.latency_s, self._last_sound_s
        )
        self._last_overflow_s = -math.inf
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(stream,), name=f"microphone {self._name}", daemon=True
        )
        self._thread.start()

    @property
    def overruns(self) -> int:
        """How often sound was lost: in the device, by a reader that fell behind, by unplugging."""
        return self._ring.overruns

    @property
    def fault(self) -> str:
        """Why there is no sound now, for people to read; empty when all is well."""
        if self.hung:
            return f"microphone {self._name!r} is open but gives no sound; reconnect it"
        return self._lost

    @property
    def hung(self) -> bool:
        """Whether the device is open and gives no sound: only a restart may help."""
        return not self._lost and time.monotonic() - self._last_sound_s >= self._patience_s

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return what came since the last call, at most 1 s; None if nothing within *timeout_s*."""
        result = self._ring.read(self.sample_rate, timeout_s)
        if result is None or self._closing.is_set():
            return None
        samples, first_sample = result
        return AudioBlock(samples.astype(np.float32) / np.float32(INT16_FULL_SCALE), first_sample)

    def close(self) -> None:
        """Let go of the device; returns after 2 s even if it is stuck."""
        self._closing.set()
        self._ring.close()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            _log.warning("microphone %r is stuck and could not be closed", self._name)

    def _run(self, first_stream: InputStream) -> None:
        stream: InputStream | None = first_stream
        while stream is not None:
            try:
                self._pump(stream)
            except AudioDeviceError as exc:
                self._lost = str(exc)
                _log.warning("%s; looking for it again", exc)
            stream.close()
            stream = self._reopen()

    def _pump(self, stream: InputStream) -> None:
        while not self._closing.is_set():
            asked_s = time.monotonic()
            samples, overflowed = stream.read()
            now_s = time.monotonic()
            n_lost = self._continuity.n_lost_before(
                samples.size, asked_s, now_s, lost=overflowed or self._lost != ""
            )
            self._last_sound_s = now_s
            self._patience_s = _PATIENCE_S + self._config.latency_s
            self._delay_s = _FIRST_DELAY_S
            self._report(now_s, overflowed=overflowed)
            if n_lost is None:
                continue
            if n_lost > 0:
                self._ring.mark_gap(n_lost)
            self._ring.write(samples)

    def _report(self, now_s: float, *, overflowed: bool) -> None:
        if self._lost:
            _log.info("microphone %r is back", self._name)
            self._lost = ""
        if overflowed and now_s - self._last_overflow_s > _OVERFLOW_LOG_EVERY_S:
            self._last_overflow_s = now_s
            _log.warning("microphone %r lost sound; raise microphone.latency_s", self._name)

    def _reopen(self) -> InputStream | None:
        # Jitter keeps several microphones of one hub from trying in step.
        while not self._closing.wait(self._delay_s * random.uniform(0.75, 1.0)):
            self._delay_s = min(2.0 * self._delay_s, _LONGEST_DELAY_S)
            try:
                refresh()
                return InputStream(self._config, self.sample_rate)
            except AudioDeviceError as exc:
                self._lost = str(exc)
                _log.debug("%s", exc)
        return None
