"""How long clips have been kept, whatever the wall clock says."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgeasd.common.files.small_file import read_small
from edgeasd.common.files.whole_file import whole_file

_NOTE_EVERY_S = 600.0
"""Seconds between two notes of the time; a crash may take so much off the age of every clip."""
_MOST_BYTES = 2**26
"""Largest file that is read: some hundred thousand clips."""
_log = logging.getLogger(__name__)


class ClipAges:
    """Counts, for each clip, the time that daemons have run since it was first seen.

    The times of the files would not do: a time server may set the wall clock by years.  A clip of
    unknown age counts as new, such as one that was put there by hand, or any once the file of ages
    is lost.  The size of all clips is bounded all the same.

    Args:
        path: File of ages; None to remember them in this process only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._opened_s = time.monotonic()
        self._ran_before_s = 0.0
        self._noted_s = -math.inf
        self._is_read = path is None
        self._is_written = True
        # How long daemons had run when each clip was first seen, by its name.
        self._first_seen_s: dict[str, float] = {}

    def of(self, names: Iterable[str]) -> dict[str, float]:
        """Return the ages of the clips *names* in seconds; other clips are forgotten."""
        if not self._is_read:
            self._read()
        now_s = self._ran_before_s + time.monotonic() - self._opened_s
        before, self._first_seen_s = (
            self._first_seen_s,
            {name: self._first_seen_s.get(name, now_s) for name in names},
        )
        if before != self._first_seen_s or now_s - self._noted_s > _NOTE_EVERY_S:
            self._write(now_s)
        return {name: now_s - seen_s for name, seen_s in self._first_seen_s.items()}

    def _read(self) -> None:
        self._is_read = True
        assert self._path is not None
        try:
            ran_s, first_seen_s = _parse(json.loads(read_small(self._path, _MOST_BYTES)))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
            _log.warning("%s: cannot be used (%s); all clips count as new", self._path, exc)
            return
        self._ran_before_s, self._first_seen_s = ran_s, first_seen_s

    def _write(self, now_s: float) -> None:
        self._noted_s = now_s
        if self._path is None or not (self._first_seen_s or self._path.exists()):
            return
        document = {"ran_s": now_s, "first_seen_s": self._first_seen_s}
        try:
            with whole_file(self._path, mode=0o600) as file:
                file.write(json.dumps(document).encode())
        except OSError as exc:
            if self._is_written:
                _log.warning(
                    "%s: cannot be written (%s); after a restart clips count as new",
                    self._path,
                    exc.strerror,
                )
            self._is_written = False
        else:
            self._is_written = True


def _parse(document: Any) -> tuple[float, dict[str, float]]:
    ran_s = _seconds(document["ran_s"])
    seen = document["first_seen_s"].items() if isinstance(document["first_seen_s"], dict) else ()
    # No clip was first seen after the last note of the time.
    return ran_s, {name: min(_seconds(seen_s), ran_s) for name, seen_s in seen}


def _seconds(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0.0 <= value < math.inf:
        raise ValueError(f"{value!r:.40} must be seconds")
    return float(value)
