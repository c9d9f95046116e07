"""What stands in for a source of sound that is not there yet."""

from __future__ import annotations

import math
import threading
from collections import deque
from contextlib import suppress

from edgeasd.capture.microphone.search import Search
from edgeasd.capture.source import AudioSource, open_source
from edgeasd.common.config import SourceConfig
from edgeasd.common.types import AudioBlock


class Waiting:
    """An `AudioSource` without sound, which looks for the one that is meant in a thread.

    Args:
        config: Of the source that is meant.
        fault: Why it is not there.
        sample_rate: Hertz; of sound that never comes.
    """

    ended = False
    overruns = 0
    late_s = 0.0
    drift_ppm = math.nan

    def __init__(self, config: SourceConfig, fault: str, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._config = config
        self._search = Search()
        self._search.lose(fault)
        self._found: deque[AudioSource] = deque(maxlen=1)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self._thread.start()

    @property
    def fault(self) -> str:
        """Why it is not there, for people to read."""
        return self._search.fault

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

    def close(self) -> None:
        """Look no further."""
        self._closing.set()
        self._discard()

    def _run(self) -> None:
        found = self._search.repeat(lambda: open_source(self._config, self._search), self._closing)
        if found is not None:
            self._found.append(found)
            if self._closing.is_set():
                self._discard()

    def _discard(self) -> None:
        source = self.take()
        if source is not None:
            source.close()
