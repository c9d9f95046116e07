"""Is the wall clock kept by a time server?  Alerts carry the answer beside their time."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_TIMESYNCD_MARK = Path("/run/systemd/timesync/synchronized")
_STA_UNSYNC = 0x0040
_TIMEX_BYTES = 256
"""More than the kernel's struct timex on any platform."""
_STATUS_OFFSET = 5 * ctypes.sizeof(ctypes.c_long)
"""After modes (int, padded to a long), offset, freq, maxerror and esterror."""


def clock_synchronized() -> bool:
    """Return whether a time server is known to keep the system's clock.

    References:
        adjtimex(2), read only (modes 0): STA_UNSYNC is cleared by NTP daemons.  Where the service
        manager forbids the call, systemd-timesyncd's mark is all that is known.
    """
    if _TIMESYNCD_MARK.exists():
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    if libc.adjtimex(timex) < 0:
        return False
    status = int.from_bytes(timex.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], sys.byteorder)
    return not status & _STA_UNSYNC
