"""The thread that writes clips to the disk.

Other threads leave clips and never wait.  A fault of the disk is reported in the health message and
stops nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from edgeasd.common.config.keys import ClipsConfig
from edgeasd.common.errors import StorageError
from edgeasd.publish.clips.folder import Clip, ClipFolder
from edgeasd.publish.payloads.health import ClipsHealth

MOST_WAITING_BYTES = 64_000_000
"""Most sound that waits for the disk, 22 clips at 48 kHz; of more, the oldest are dropped."""

_RETRY_S = 5.0
_TIDY_S = 3600.0
_SLOW_S = 10.0
_INTERNAL_ERROR = "clips are not written: internal error; see the log"
_log = logging.getLogger(__name__)


class ClipWriter:
    """Writes clips in a thread of its own, and removes old ones, even where no more are made.

    While the disk cannot be written, clips wait in memory.

    Args:
        config: Whether clips are made, how long they are kept, and how many.
        directory: Folder of the clips; made if need be, for this user alone.
        ages_path: File that keeps the ages of clips over restarts; None to forget them.
    """

    def __init__(self, config: ClipsConfig, directory: Path, ages_path: Path | None = None) -> None:
        self._enabled = config.enabled
        self._folder = ClipFolder(config, directory, ages_path)
        self._tidy = self._folder.prepare if config.enabled else self._folder.make_room
        self._changed = threading.Condition()
        self._waiting: deque[Clip] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._began_s: float | None = None
        self._written = 0
        self._dropped = 0
        self._fault = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write the clips that wait, for at most *timeout_s* seconds, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def put(self, clip: Clip) -> None:
        """Have *clip* written soon; if too many wait, the oldest is dropped.  Never waits."""
        with self._changed:
            self._waiting.append(clip)
            self._drop_excess()
            self._changed.notify()

    @property
    def health(self) -> ClipsHealth | None:
        """Health of the clips; None if none are made."""
        if not self._enabled:
            return None
        fault = self.fault
        return ClipsHealth(fault == "", fault, self._written, self._dropped)

    @property
    def fault(self) -> str:
        """Why clips cannot be written, in words; empty when they can."""
        began_s = self._began_s
        if began_s is not None and time.monotonic() - began_s > _SLOW_S:
            return f"clips wait for {self._folder.directory}: the disk does not answer"
        if self._thread.ident is not None and not (self._thread.is_alive() or self._stopping):
            return _INTERNAL_ERROR
        return self._fault

    def _run(self) -> None:
        self._tidy_up()
        while (clip := self._next()) is not None or not self._stopping:
            if clip is None:
                self._tidy_up()
            elif not self._write(clip) and self._stopping:
                break
        self._drop(len(self._waiting), "the daemon stops")

    def _next(self) -> Clip | None:
        """Wait for a clip, and no longer than until it is time to tidy up."""
        with self._changed:
            if self._fault:
                self._changed.wait_for(lambda: self._stopping, _RETRY_S)
            else:
                self._changed.wait_for(lambda: self._waiting or self._stopping, _TIDY_S)
            return self._waiting.popleft() if self._waiting else None

    def _tidy_up(self) -> None:
        try:
            self._attempt(self._tidy)
        except Exception:  # noqa: BLE001  # the thread must go on, or no clip is ever written again
            if self._fault != _INTERNAL_ERROR:
                _log.exception("old clips cannot be removed")
            self._fail(_INTERNAL_ERROR)

    def _write(self, clip: Clip) -> bool:
        try:
            if self._attempt(lambda: self._folder.write(clip)):
                self._written += 1
                return True
        except StorageError as exc:
            self._drop(1, str(exc))
            return False
        except Exception:  # noqa: BLE001  # one clip must not keep back the others
            _log.exception("%s cannot be made", clip.name)
            self._drop(1, "internal error")
            return False
        with self._changed:
            self._waiting.appendleft(clip)
            self._drop_excess()
        return False

    def _attempt(self, work: Callable[[], None]) -> bool:
        self._began_s = time.monotonic()
        try:
            work()
        except OSError as exc:
            self._fail(f"clips cannot be written to {self._folder.directory} ({exc.strerror})")
            return False
        finally:
            self._began_s = None
        if self._fault:
            _log.info("clips can be written again")
        self._fault = ""
        return True

    def _fail(self, fault: str) -> None:
        if fault != self._fault:
            _log.warning("%s; they wait in memory, and alerts are sent without them", fault)
        self._fault = fault

    def _drop_excess(self) -> None:
        n_dropped = 0
        while len(self._waiting) > 1 and _n_bytes(self._waiting) > MOST_WAITING_BYTES:
            self._waiting.popleft()
            n_dropped += 1
        self._drop(n_dropped, "too many wait for the disk")

    def _drop(self, n_clips: int, reason: str) -> None:
        if n_clips:
            with self._changed:
                self._dropped += n_clips
            _log.warning("dropped %d clips: %s", n_clips, reason)


def _n_bytes(clips: deque[Clip]) -> int:
    return sum(clip.samples.nbytes for clip in clips)
