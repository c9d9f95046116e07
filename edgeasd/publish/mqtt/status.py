"""How the running daemon is connected, for ``edgeasd check`` beside it.

Some brokers tie an account to one client id: whoever connects with the daemon's account throws the
daemon out.  What the daemon finds out in operation is more than a check could, so it is asked.
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
    from edgeasd.common.config import MqttConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """How a daemon is connected.

    Attributes:
        pid: Process number of the daemon.
        started: When that process started, as the kernel counts.
        account: Broker, port, user name and certificate.
        connected: Whether the broker has accepted the connection and it stands.
        fault: Why alerts do not get out, in words; empty when they do.
    """

    pid: int
    started: str
    account: str
    connected: bool
    fault: str


class StatusFile:
    """Where a daemon says how it is connected.

    Args:
        state_dir: State directory of the daemon.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "connection.json"
        self._written: ConnectionStatus | None = None

    def write(self, config: MqttConfig, fault: str, *, connected: bool) -> None:
        """Say how the running process is connected, if it is news."""
        pid = os.getpid()
        status = ConnectionStatus(pid, _started(pid), account_of(config), connected, fault)
        if status == self._written:
            return
        self._written = status
        try:
            with whole_file(self._path, 0o600) as file:
                file.write(json.dumps(asdict(status)).encode())
        except OSError as exc:  # a full disk is told by the outbox
            _log.debug("%s: cannot be written (%s)", self._path, os_reason(exc))

    def read(self) -> ConnectionStatus | None:
        """Return what the daemon that runs has said; None if none runs."""
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
    """Return broker and account; empty without an account, which nothing can be tied to."""
    if not config.username and config.cert_file is None:
        return ""
    return f"{config.username} {config.cert_file or ''} {config.host.lower()}:{config.port}"


def _started(pid: int) -> str:
    """Return when the process *pid* started; empty if there is none.

    References:
        proc(5), /proc/pid/stat: the 22nd field, the second of which may hold blanks.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
