"""The one form that all sources of sound share, how one is opened, and how one is waited for."""

from __future__ import annotations

import math
import threading
from collections import deque
from contextlib import suppress
from typing import Protocol

from edgeasd.capture.microphone.channel import Microphone
from edgeasd.capture.microphone.search import Search
from edgeasd.capture.recording.wavfile import WavFile
from edgeasd.common.config.keys import FileConfig, MicrophoneConfig, SimulatorConfig, SourceConfig
from edgeasd.common.errors import EdgeasdError
from edgeasd.common.types import AudioBlock

_OPEN_PATIENCE_S = 2.0
"""Seconds that whoever opens a microphone waits for it; most open in a tenth of that."""


class AudioSource(Protocol):
    """Where sound comes from; its blocks are at its own rate."""

    @property
    def sample_rate(self) -> int:
        """Sample rate of the blocks, hertz."""

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return the next block, or None if no sound came within *timeout_s* seconds.

        One thread reads.
        """

    @property
    def ended(self) -> bool:
        """Whether all has been read: of a file; never of a microphone or the simulator."""

    @property
    def overruns(self) -> int:
        """How often sound was lost so far."""

    @property
    def fault(self) -> str:
        """Why there is no sound now, for people to read; empty when all is well."""

    @property
    def hung(self) -> bool:
        """Whether sound stays away for no known reason, so that only a restart may help."""

    @property
    def late_s(self) -> float:
        """Seconds for which sound that is there has waited to be read."""

    @property
    def drift_ppm(self) -> float:
        """Parts per million by which its clock is fast against the computer's; NaN if not known."""

    def close(self) -> None:
        """Let go of the device or file; `read` gives nothing more.  Any thread may call this."""


def open_source(config: SourceConfig, search: Search | None = None) -> AudioSource:
    """Return the source that *config* describes.

    Args:
        config: Configuration of the source.
        search: Looks for a microphone; None looks once.

    Raises:
        AudioFileError: If the file cannot be read.
        AudioDeviceError: If the microphone or the audio library is not there.
    """
    if isinstance(config, SimulatorConfig):
        # Its filters come with 49 MB of scipy.signal, which a daemon on a microphone never needs.
        from edgeasd.capture.simulator.simulator import Simulator  # noqa: PLC0415

        return Simulator(config)
    if isinstance(config, FileConfig):
        return WavFile(config.path, config.channel, paced=config.paced, repeat=config.repeat)
    return Microphone(config, search)


class Waiting:
    """An `AudioSource` without sound, which looks for the one that is meant in a thread.

    Args:
        config: Configuration of the source that is meant.
        fault: Why it is not there; empty if nobody has tried to open it yet.
        sample_rate: Sample rate of the sound that never comes, hertz.

    Attributes:
        error: Error of the first attempt to open the source; None before, and if there was none.
    """

    ended = False
    overruns = 0
    late_s = 0.0
    drift_ppm = math.nan

    def __init__(self, config: SourceConfig, fault: str, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.error: Exception | None = None
        self._config = config
        self._search = Search()
        self._search.lose(fault)
        self._found: deque[AudioSource] = deque(maxlen=1)
        self._tried = threading.Event()
        self._closing = threading.Event()
        # By this name the process knows that the audio library may hang at its end.
        name = "microphone search" if isinstance(config, MicrophoneConfig) else "search"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """Why it is not there, for people to read."""
        return self._search.fault or (
            "the microphone does not answer to being opened; reconnect it, or restart the sound "
            "server"
        )

    @property
    def hung(self) -> bool:
        """Whether the search does not return, so that only a restart may help."""
        return self._search.hung

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Wait; there is no sound."""
        self._closing.wait(timeout_s)
        return None

    def take(self) -> AudioSource | None:
        """Return the source once it was found; it is the caller's from then on."""
        with suppress(IndexError):
            return self._found.popleft()
        return None

    def take_within(self, timeout_s: float) -> AudioSource | None:
        """Return the source if the first attempt to open it succeeds within *timeout_s* seconds."""
        self._tried.wait(timeout_s)
        return self.take()

    def close(self) -> None:
        """Look no further."""
        self._closing.set()
        self._discard()

    def _run(self) -> None:
        found = self._search.repeat(self._attempt, self._closing)
        if found is not None:
            self._found.append(found)
            if self._closing.is_set():
                self._discard()
        self._tried.set()

    def _attempt(self) -> AudioSource:
        try:
            return open_source(self._config, self._search)
        except Exception as exc:
            self.error = self.error or exc
            self._tried.set()
            raise

    def _discard(self) -> None:
        source = self.take()
        if source is not None:
            source.close()


def open_or_wait(
    config: SourceConfig, sample_rate: int, excused: type[EdgeasdError]
) -> AudioSource:
    """Return the source that *config* describes, or what looks for it until it is there.

    A microphone is opened in a thread: a device or a sound server that hangs then holds up nobody
    for longer than two seconds.

    Args:
        config: Configuration of the source.
        sample_rate: Sample rate of the sound of a source that is not there, hertz.
        excused: Errors for which the source is looked for again and again.

    Raises:
        EdgeasdError: If opening the source raises an error that is not excused.
    """
    if not isinstance(config, MicrophoneConfig):
        try:
            return open_source(config)
        except excused as exc:
            return Waiting(config, str(exc), sample_rate)
    waiting = Waiting(config, "", sample_rate)
    found = waiting.take_within(_OPEN_PATIENCE_S)
    if found is None and waiting.error is not None and not isinstance(waiting.error, excused):
        waiting.close()
        raise waiting.error
    return found or waiting
