"""How often the process may end because a device hangs.

Only the end of the process lets go of such a device; the service manager then starts it again.  But
a device that hangs for ever must not keep all other machines from being heard: the waits between
two such ends grow, and a file keeps them for the next process.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from edgeasd.common.clock import Moment, moment
from edgeasd.common.files.small_file import read_small
from edgeasd.common.files.whole_file import whole_file

_FIRST_WAIT_S, _LONGEST_WAIT_S = 60.0, 3600.0
"""Seconds between two ends of the process, at first and in the end."""
_log = logging.getLogger(__name__)


class Departures:
    """Remembers when the process last ended because of a device, and how long it must now stay.

    Args:
        path: File that keeps this; if it cannot be used, nothing is remembered.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: Moment | None = None
        self._wait_s = 0.0
        try:
            document = json.loads(read_small(path))
            self._last = Moment(**document["last"])
            self._wait_s = float(document["wait_s"])
        except FileNotFoundError:
            pass  # no process has ended for that
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
            _log.warning("%s: cannot be used (%s)", path, exc)

    @property
    def may_leave(self) -> bool:
        """Whether the last such end was long enough ago."""
        since_s = self._since_s()
        return since_s is None or since_s >= self._wait_s

    def note(self) -> None:
        """Take note that the process ends now."""
        since_s = self._since_s()
        is_again = since_s is not None and since_s < self._wait_s + _LONGEST_WAIT_S
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S) if is_again else _FIRST_WAIT_S
        self._last = moment()
        try:
            with whole_file(self._path) as file:
                file.write(
                    json.dumps({"last": asdict(self._last), "wait_s": self._wait_s}).encode()
                )
        except OSError as exc:
            _log.warning("%s: cannot be written (%s)", self._path, exc.strerror)

    def _since_s(self) -> float | None:
        return None if self._last is None else moment().since(self._last)
