"""How the running daemon is connected, in a file for ``edgeasd check``.

Some brokers tie an account to one client id: a check that connected with the daemon's account would
disconnect the daemon.  Beside a running daemon the check reads this file instead, which also tells
what a check could not find out.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeasd.common.errors import os_reason
from edgeasd.common.files.small_file import read_small
from edgeasd.common.files.whole_file import whole_file

if TYPE_CHECKING:
    from edgeasd.common.config.keys import MqttConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """How a daemon is connected.

    Attributes:
        pid: Process number of the daemon.
        started: When that process started, as the kernel counts time.
        account: Broker, port, user name and certificate.
        connected: Whether it is connected and the broker has accepted the connection.
        fault: Why alerts do not get out, in words; empty when they do.
    """

    pid: int
    started: str
    account: str
    connected: bool
    fault: str


class StatusFile:
    """File in which a daemon says how it is connected.

    Args:
        state_dir: State directory of the daemon.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "connection.json"
        self._written: ConnectionStatus | None = None

    def write(self, config: MqttConfig, fault: str, *, connected: bool) -> None:
        """Write how this process is connected, if that has changed."""
        pid = os.getpid()
        status = ConnectionStatus(pid, _started(pid), account_of(config), connected, fault)
        if status == self._written:
            return
        self._written = status
        try:
            with whole_file(self._path, 0o600) as file:
                file.write(json.dumps(asdict(status)).encode())
        except OSError as exc:  # the outbox reports a full disk
            _log.debug("%s: cannot be written (%s)", self._path, os_reason(exc))

    def read(self) -> ConnectionStatus | None:
        """Return how the running daemon is connected; None if none runs."""
        try:
            said = json.loads(read_small(self._path))
            status = ConnectionStatus(
                int(said["pid"]),
                str(said["started"]),
                str(said["account"]),
                said["connected"] is True,
                str(said["fault"]),
            )
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return status if status.started and _started(status.pid) == status.started else None


def account_of(config: MqttConfig) -> str:
    """Return broker and account; empty without an account, as then no client id is tied to it."""
    if not config.username and config.cert_file is None:
        return ""
    return f"{config.username} {config.cert_file or ''} {config.host.lower()}:{config.port}"


def _started(pid: int) -> str:
    """Return when the process *pid* started; empty if there is no such process.

    References:
        proc(5), /proc/pid/stat: the 22nd field; the second may contain blanks.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
