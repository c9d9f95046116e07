"""Real brokers and subscribers for the tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgeasd.publish.mqtt.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edgeasd.common.config.keys import MqttConfig

DEADLINE_S = 90.0
"""For what takes a second or two on a quiet computer: a busy one only takes longer."""

_PORTS = range(10_000, 30_000)
"""Below those that the kernel gives to connections: nobody gets one while a broker restarts."""
_numbers = itertools.count(97 * os.getpid())


def wait_until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until *condition* holds; fail after the deadline."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"not in {deadline_s:g} s: {what}"
        time.sleep(0.005)


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free, and that is given to nobody else.

    Each process begins elsewhere, and goes round.
    """
    for number in _numbers:
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("the numbers have no end")


def connect_once(config: MqttConfig, timeout_s: float = 10.0) -> None:
    """Connect as a client with a name of its own, and disconnect.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
        BrokerError: If the broker cannot be reached or refuses.
    """
    client_id = f"test-{secrets.token_hex(4)}"
    Connection(config, client_id, connect_timeout_s=timeout_s).close(cleanly=True)


class Mosquitto:
    """A mosquitto of its own on the loopback interface.

    Args:
        folder: For its configuration, passwords and saved sessions.
        passwords: Accounts; without any, everyone may connect.
        lines: Further lines of its configuration, for example for TLS.
    """

    def __init__(
        self, folder: Path, passwords: dict[str, str] | None = None, lines: Sequence[str] = ()
    ) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)
        access = ["allow_anonymous true"]
        if passwords is not None:
            access = ["allow_anonymous false", f"password_file {folder}/passwords"]
            self.set_passwords(passwords)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            "\n".join(
                [
                    "user root",
                    f"listener {self.port} 127.0.0.1",
                    *access,
                    "persistence true",
                    f"persistence_location {folder}/",
                    "autosave_interval 0",
                    "max_queued_messages 100000",
                    # What it acknowledged it has passed on, so that `kill` does not lose it.
                    "max_inflight_messages 0",
                    *lines,
                    "",
                ]
            )
        )

    def set_passwords(self, passwords: dict[str, str]) -> None:
        """Replace its accounts; a running one reads them at once."""
        path = self._folder / "passwords"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        for user, password in passwords.items():
            subprocess.run(
                ["mosquitto_passwd", "-b", path, user, password], check=True, capture_output=True
            )
        if self._process is not None:
            self.reload()

    def add_lines(self, *lines: str) -> None:
        """Add lines to its configuration, before it is started."""
        with self._config.open("a") as config:
            config.writelines(f"{line}\n" for line in lines)

    def reload(self) -> None:
        """Have it read its accounts and its access control list again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["mosquitto", "-c", self._config], stdout=log, stderr=log
            )
        wait_until(self._accepts, "mosquitto accepts connections")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order, if it runs."""
        if self._process is not None:
            self.resume()
            self._end(signal.SIGTERM)

    def hang(self) -> None:
        """Let it stop answering while its connections stand."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def save_sessions(self) -> None:
        """Write subscriptions to disk, so that they outlive `kill`."""
        assert self._process is not None
        saved = self._folder / "mosquitto.db"
        saved.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        wait_until(saved.exists, "mosquitto saves its sessions")

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(DEADLINE_S)
        self._process = None

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@dataclass(frozen=True)
class Message:
    """A message that a subscriber got."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    received_s: float  # time.monotonic()

    @property
    def json(self) -> Any:
        """The payload, parsed."""
        return json.loads(self.payload)


class Subscriber:
    """A client of the project's own MQTT library that collects what it gets.

    Args:
        port: Of the broker on the loopback interface.
        topic: What to subscribe to.
        client_id: Given, the broker keeps the subscription and messages while it is away.
    """

    def __init__(self, port: int, topic: str = "#", client_id: str = "") -> None:
        self.messages: list[Message] = []
        self.n_connections = 0
        self._topic = topic
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=not client_id
        )
        self._client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]  # may be a fraction
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(lambda: self.n_connections, "subscribed")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def on(self, topic: str) -> list[bytes]:
        """The payloads that came on *topic*, in order."""
        return [message.payload for message in list(self.messages) if message.topic == topic]

    def wait_for(self, topic: str, payload: bytes) -> Message:
        """Wait for a message, and return the first one."""

        def found() -> list[Message]:
            return [m for m in list(self.messages) if (m.topic, m.payload) == (topic, payload)]

        wait_until(found, f"{payload!r} on {topic}")
        return found()[0]

    def is_idle(self, idle_s: float = 0.2) -> bool:
        """Wait *idle_s* seconds, and return whether nothing came."""
        n_before = len(self.messages)
        time.sleep(idle_s)
        return len(self.messages) == n_before

    def _on_connect(self, *_args: Any) -> None:
        self._client.subscribe(self._topic, qos=1)

    def _on_subscribe(self, *_args: Any) -> None:
        self.n_connections += 1

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        payload = bytes(message.payload)
        self.messages.append(
            Message(message.topic, payload, message.qos, message.retain, time.monotonic())
        )
