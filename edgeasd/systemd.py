"""The service manager's notification protocol: ready, watchdog, status, stopping."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


def notify(*fields: str) -> None:
    """Tell the service manager *fields* such as ``READY=1``; without one, do nothing.

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
            channel.connect(address)
            channel.sendall("\n".join(fields).encode())
    except OSError as exc:
        _log.warning("the service manager cannot be told %s: %s", fields, exc)


def watchdog_interval_s() -> float | None:
    """Return how often the service manager wants a sign of life, seconds; `None` if it does not.

    References:
        sd_watchdog_enabled(3); half of the time-out, as it recommends.
    """
    timeout_us = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not timeout_us.isdigit() or int(timeout_us) == 0 or pid != str(os.getpid()):
        return None
    return int(timeout_us) / 2e6
