"""Listens to the machines of a broker and shows them; it publishes nothing."""

from __future__ import annotations

import math
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live

from edgeasd.cli.terminal import line, picture_on
from edgeasd.cli.watch.fleet import Fleet, local_time
from edgeasd.cli.watch.picture import picture
from edgeasd.common.backoff import BackOff
from edgeasd.common.config.file import load_config
from edgeasd.common.config.keys import MqttConfig
from edgeasd.common.documents.reading import DocumentError, read_table
from edgeasd.common.errors import BrokerError, ConfigError
from edgeasd.common.interruption import Interruption, interruptible
from edgeasd.common.output import say
from edgeasd.publish.mqtt.connection import Connection
from edgeasd.publish.mqtt.faults import account
from edgeasd.publish.mqtt.inbound import MAX_RECEIVED_BYTES

_TURN_S = 0.5
"""Seconds to wait for a message at a time."""
_REDRAW_S = 0.25
"""Least seconds between two pictures: messages may come faster than anybody can read."""
_LONGEST_DELAY_S = 30.0
"""Longest wait between two attempts to connect."""
_CONNECT_TIMEOUT_S = 5.0


def broker_of(config_path: Path, given: dict[str, Any]) -> MqttConfig:
    """Return the broker that *given*, keys of ``[mqtt]``, describes; if empty, the configured one.

    Raises:
        ConfigError: If a value is wrong, or the configuration cannot be used.
    """
    if not given:
        return load_config(config_path).mqtt
    try:
        return read_table(MqttConfig, given, "mqtt")
    except DocumentError as exc:
        raise ConfigError(*exc.lines) from exc


def watch_fleet(config: MqttConfig, duration_s: float) -> None:
    """Show what the nodes below the base topic say, until Ctrl-C or the end of *duration_s*.

    On a terminal this is a picture; else a line for each event and each change of a state.

    Raises:
        BrokerError: If there is no connection at the start, or the broker refuses the subscription;
            later losses are told and waited for.
    """
    with interruptible() as interruption, picture_on(sys.stdout) as live:
        _Watcher(config, time.monotonic() + duration_s, live).run(interruption)


class _Watcher:
    """A client of the broker that shows what it receives.

    Args:
        config: How the broker is reached.
        end_s: When to stop, seconds of the monotonic clock.
        live: The picture; None where lines are printed instead.
    """

    def __init__(self, config: MqttConfig, end_s: float, live: Live | None) -> None:
        self._config = config
        self._end_s = end_s
        self._filter = "/".join([*([config.base] if config.base else []), "edgeasd/v1/#"])
        self._fleet = Fleet()
        self._live = live
        self._was_connected = False
        self._status = ""
        self._drawn_s = -math.inf
        self._n_too_large = 0
        self._back_off = BackOff(longest_s=_LONGEST_DELAY_S)

    def run(self, interruption: Interruption) -> None:
        while not self._is_over(interruption):
            fault = self._session_fault(interruption)
            if fault:
                self._wait(fault, interruption)

    def _session_fault(self, interruption: Interruption) -> str:
        """Watch until the end, or return why the connection was lost."""
        try:
            self._session(interruption)
        except BrokerError as exc:
            if not self._was_connected:
                raise
            return str(exc)
        return ""

    def _is_over(self, interruption: Interruption) -> bool:
        return interruption.requested or time.monotonic() >= self._end_s

    def _session(self, interruption: Interruption) -> None:
        client_id = f"edgeasd-watch-{secrets.token_hex(4)}"
        connection = Connection(self._config, client_id, connect_timeout_s=_CONNECT_TIMEOUT_S)
        try:
            number = connection.subscribe(self._filter, qos=0)
            self._n_too_large = 0
            self._fleet.listening_since_s = time.monotonic()
            self._tell_status(f"connected to {self._config.host}:{self._config.port}")
            while not self._is_over(interruption):
                connection.serve(_TURN_S)
                if connection.is_refused(number):
                    self._was_connected = False
                    raise BrokerError(
                        f"broker refuses to let {account(self._config)} read {self._filter!r}; "
                        "allow it in the broker's ACL, or use another user"
                    )
                if connection.is_answered(number):
                    self._was_connected = True
                    self._back_off.reset()
                self._hear(connection)
        finally:
            # Without a connection, a silent node is not to blame.
            self._fleet.listening_since_s = math.inf
            connection.close(cleanly=True)

    def _hear(self, connection: Connection) -> None:
        for message in connection.received():
            for news in self._fleet.hear(message, time.monotonic(), time.time()):
                if self._live is None:
                    say(news)
                    sys.stdout.flush()
        self._tell_too_large(connection)
        self._draw()

    def _tell_too_large(self, connection: Connection) -> None:
        for _ in range(connection.n_too_large - self._n_too_large):
            what = f"a message of more than {MAX_RECEIVED_BYTES} bytes"
            for news in self._fleet.leave_out(self._filter, what):
                if self._live is None:
                    say(f"{local_time(time.time())} {news}")
        self._n_too_large = connection.n_too_large

    def _wait(self, fault: str, interruption: Interruption) -> None:
        delay_s = self._back_off.fail(time.monotonic())
        self._tell_status(f"{fault}; trying again")
        while not (self._back_off.is_due(time.monotonic()) or self._is_over(interruption)):
            self._draw()
            time.sleep(min(_TURN_S, delay_s))

    def _tell_status(self, status: str) -> None:
        if self._live is None and status != self._status:
            say(f"{local_time(time.time())} {status}", err=True)
        self._status = status

    def _draw(self) -> None:
        now_s = time.monotonic()
        if self._live is None or now_s - self._drawn_s < _REDRAW_S:
            return
        self._drawn_s = now_s
        hint = (
            "Ctrl-C ends"
            if self._fleet.nodes
            else f"nothing yet on {self._filter}; check mqtt.base and the broker's ACL"
        )
        options = self._live.console.options
        # The status and the hint take a line each.
        n_most = max(1, options.size.height - 2)
        lines = picture(
            self._fleet, now_s, n_most, options.max_width, ascii_only=options.ascii_only
        )
        status = line(f"{self._status}   {local_time(time.time())}")
        self._live.update(Group(status, *lines, line(hint)), refresh=True)
