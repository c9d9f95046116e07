"""Opens what is not there yet, or no longer: again and again, ever more seldom."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from edgeasd.capture.microphone.portaudio import InputStream, finds_anew, refresh, restart
from edgeasd.common.config import MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError, EdgeasdError

_PATIENCE_S = 30.0  # a look in a new process and a restart take at most 10 each
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_SIGHTINGS = 2
"""Of a device that the list lacks before all streams restart: until then it may open without."""
_INTERNAL_ERROR = "the source of sound cannot be opened: internal error; see the log"
_Found = TypeVar("_Found")
_log = logging.getLogger(__name__)


class Search:
    """Looks for one source of sound, after 0.5 s at first and 30 s at last.

    While other devices are open PortAudio's list stays as it was.  A device that comes under
    another number is therefore looked for in a new process, and all streams restart once it is seen
    there: a gap for the others, and only when that helps.

    Attributes:
        fault: Why there is no sound, for people to read; empty when all is well.
    """

    def __init__(self) -> None:
        self.fault = ""
        self._n_sightings = 0
        self._delay_s = _FIRST_DELAY_S
        self._found_s = -math.inf
        # Of the attempt that is made now, if one is.
        self._began_s: float | None = None

    @property
    def hung(self) -> bool:
        """Whether an attempt does not return: only a restart of the process may help."""
        began_s = self._began_s
        return began_s is not None and time.monotonic() - began_s >= _PATIENCE_S

    def lose(self, reason: str) -> None:
        """Take note that there is no sound any more."""
        self.fault = reason
        self._n_sightings = 0

    def settle(self) -> None:
        """Take note that there is sound."""
        now_s = time.monotonic()
        if self.fault:
            self.fault = ""
            self._found_s = now_s
        # A plug that makes contact for a moment, time and again, is no reason to hurry.
        if now_s - self._found_s > self._delay_s:
            self._delay_s = _FIRST_DELAY_S

    def repeat(self, attempt: Callable[[], _Found], closing: threading.Event) -> _Found | None:
        """Call *attempt* until it raises no error; None if *closing* is set before.

        What is not lost is wanted at once, as a stream that was closed on purpose.
        """
        delay_s = self._delay_s if self.fault else 0.0
        # Jitter keeps several microphones of one hub from trying in step.
        while not closing.wait(delay_s * random.uniform(0.75, 1.0)):
            self._delay_s = min(2.0 * self._delay_s, _LONGEST_DELAY_S)
            try:
                return attempt()
            except EdgeasdError as exc:
                self.fault = str(exc)
                _log.debug("%s", exc)
            except Exception:  # noqa: BLE001  # who looks no more finds nothing
                if self.fault != _INTERNAL_ERROR:
                    _log.exception(_INTERNAL_ERROR)
                self.fault = _INTERNAL_ERROR
            delay_s = self._delay_s
        return None

    def open(self, config: MicrophoneConfig, sample_rate: int) -> InputStream:
        """Open an input, also one that the library's list lacks if it was lost.

        Raises:
            AudioDeviceError: As `InputStream`.
        """
        # From here on: to wait for the attempts of others, however many, is not to hang.
        self._began_s = time.monotonic()
        try:
            return self._open(config, sample_rate)
        finally:
            self._began_s = None

    def _open(self, config: MicrophoneConfig, sample_rate: int) -> InputStream:
        is_lost = self.fault != ""
        renewed = is_lost and refresh()
        try:
            return InputStream(config, sample_rate)
        except AudioDeviceError:
            if renewed or not is_lost or not self._would_restart_help(config.device):
                raise
        _log.info("all microphones pause a moment for %r", config.device)
        restart()
        return InputStream(config, sample_rate)

    def _would_restart_help(self, device: str) -> bool:
        """Return whether the device is there, but not in the library's list; once a loss."""
        seen = finds_anew(device)
        self._n_sightings = self._n_sightings + 1 if seen else 0
        if self._n_sightings == 1:
            self._delay_s = _FIRST_DELAY_S
        return self._n_sightings == _SIGHTINGS
