"""The service manager's notifications (ready, status, watchdog, stopping) and its journal."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TextIO

from edgeasd.common.text import LineFormatter, printable

_PATIENCE_S = 1.0
"""Seconds to wait for a service manager that takes no message: supervision must go on."""
_BUSY_EVERY_S = 10.0
"""Seconds between two messages that a long step makes progress."""
_log = logging.getLogger(__name__)


def notify(*fields: str) -> None:
    """Tell the service manager *fields* such as ``READY=1``; without one, do nothing.

    A field is one line: another line would be another field.

    References:
        sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(_PATIENCE_S)
            channel.connect(address)
            channel.sendall("\n".join(map(printable, fields)).encode())
    except OSError as exc:
        _log.warning("the service manager cannot be told %s: %s", fields, exc)


def notify_reloading() -> None:
    """Tell the service manager that the configuration is read again; ``READY=1`` must follow.

    References:
        sd_notify(3): RELOADING=1 goes with the time, for ``Type=notify-reload``.
    """
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


class Busy:
    """Tells the service manager, every ten seconds, that a start or a reload makes progress.

    References:
        sd_notify(3): EXTEND_TIMEOUT_USEC, while the service starts or stops.
    """

    def __init__(self) -> None:
        self._told_s = time.monotonic()

    def advance(self) -> None:
        """Take note of a step, and tell the service manager if the last message is old enough."""
        if time.monotonic() - self._told_s >= _BUSY_EVERY_S:
            self._told_s = time.monotonic()
            notify("EXTEND_TIMEOUT_USEC=30000000", "WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """Return the seconds between two signs of life for the watchdog; None if there is none.

    References:
        sd_watchdog_enabled(3), which recommends half of the time-out.
    """
    timeout_us = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not timeout_us.isdigit() or int(timeout_us) == 0 or pid != str(os.getpid()):
        return None
    return int(timeout_us) / 2e6


class JournalFormatter(LineFormatter):
    """Puts the severity in front of each line, as the journal wants it: ``<4>`` is a warning.

    References:
        sd-daemon(3), the levels of syslog(3).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of *record*."""
        level = next(
            priority
            for least, priority in (
                (logging.ERROR, 3),
                (logging.WARNING, 4),
                (logging.INFO, 6),
                (0, 7),
            )
            if record.levelno >= least
        )
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def is_journal(stream: TextIO) -> bool:
    """Return whether *stream* goes to the journal.

    References:
        systemd.exec(5): JOURNAL_STREAM holds device and inode of the journal's socket.
    """
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
