"""Opens a source that is not there yet, or no longer: again and again, ever less often."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from edgeasd.capture.microphone.portaudio import InputStream, finds_anew, refresh, restart
from edgeasd.common.backoff import BackOff
from edgeasd.common.config.keys import MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError, EdgeasdError

_PATIENCE_S = 30.0
"""Seconds after which an attempt counts as hung: a look in a new process and a restart of the audio
library take at most ten seconds each."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 30.0
"""Seconds between two attempts, at first and in the end."""
_SIGHTINGS = 2
"""Times that a new process must see a device before all streams restart for it: before that, it may
open without a restart."""
_INTERNAL_ERROR = "the source of sound cannot be opened: internal error; see the log"
_Found = TypeVar("_Found")
_log = logging.getLogger(__name__)


class Search:
    """Looks for one source of sound, every half second at first and every 30 s in the end.

    While other devices are open, PortAudio's list of devices stays as it was.  A device that
    appears under another number is therefore looked for in a new process.  Once it is seen there,
    all streams restart: this costs the others a gap, so it is done only when it helps.

    Attributes:
        fault: Why there is no sound, for people to read; empty when all is well.
    """

    def __init__(self) -> None:
        self.fault = ""
        self._n_sightings = 0
        self._back_off = BackOff(_FIRST_DELAY_S, _LONGEST_DELAY_S)
        self._found_s = -math.inf
        # When the attempt that is being made began; None between two attempts.
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
        # A plug with a loose contact is no reason to hurry.
        if now_s - self._found_s > self._back_off.delay_s:
            self._back_off.reset()

    def repeat(self, attempt: Callable[[], _Found], closing: threading.Event) -> _Found | None:
        """Call *attempt* until it raises no error; return None if *closing* is set before.

        The first attempt is made at once unless there is a fault, as for a stream that was closed
        on purpose.
        """
        wait_s = self._back_off.fail(time.monotonic()) if self.fault else 0.0
        while not closing.wait(wait_s):
            try:
                return attempt()
            except EdgeasdError as exc:
                self.fault = str(exc)
                _log.debug("%s", exc)
            except Exception:  # noqa: BLE001  # the search must go on, whatever went wrong
                if self.fault != _INTERNAL_ERROR:
                    _log.exception(_INTERNAL_ERROR)
                self.fault = _INTERNAL_ERROR
            wait_s = self._back_off.fail(time.monotonic())
        return None

    def open(self, config: MicrophoneConfig, sample_rate: int) -> InputStream:
        """Open an input; one that was lost is found even if the library's list lacks it.

        Raises:
            AudioDeviceError: If `InputStream` cannot open it.
        """
        # Counted from here: waiting for the attempts of others is not hanging.
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
        """Return whether a restart would bring the device into the library's list; once a loss."""
        seen = finds_anew(device)
        self._n_sightings = self._n_sightings + 1 if seen else 0
        if self._n_sightings == 1:
            self._back_off.reset()
        return self._n_sightings == _SIGHTINGS
