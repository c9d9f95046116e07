"""The computer's clocks: whether the wall clock is right, and a clock that nobody can set."""

from __future__ import annotations

import ctypes
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_TIMESYNCD_MARK = Path("/run/systemd/timesync/synchronized")
_STA_UNSYNC = 0x0040
_TIMEX_BYTES = 256
"""More bytes than the kernel's struct timex has on any platform."""
_STATUS_OFFSET = 5 * ctypes.sizeof(ctypes.c_long)
"""Offset of the status in that struct, behind modes (int, padded to a long), offset, freq, maxerror
and esterror."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment that can be compared with others since the same boot, even of another process.

    Attributes:
        boot: Name of the time between two boots of the computer; empty if it is not known.
        at_s: Seconds since the boot, including those in which the computer slept.
    """

    boot: str
    at_s: float

    def since(self, earlier: Moment) -> float | None:
        """Return the seconds since *earlier*; None if that was in another boot."""
        if not self.boot or self.boot != earlier.boot:
            return None
        return self.at_s - earlier.at_s


def moment() -> Moment:
    """Return the present moment, by a clock that, unlike the wall clock, nobody sets."""
    try:
        boot = _BOOT.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        boot = ""
    return Moment(boot, since_boot_s())


def since_boot_s() -> float:
    """Return the seconds since the computer was booted, including those in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def clock_synchronized() -> bool:
    """Return whether a time server is known to keep the system's clock.

    References:
        adjtimex(2), read only (modes 0): NTP daemons clear STA_UNSYNC.  Where the service manager
        forbids the call, all that is known is the file of systemd-timesyncd.
    """
    if _TIMESYNCD_MARK.exists():
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    if libc.adjtimex(timex) < 0:
        return False
    status = int.from_bytes(timex.raw[_STATUS_OFFSET : _STATUS_OFFSET + 4], sys.byteorder)
    return not status & _STA_UNSYNC
