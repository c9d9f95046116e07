"""Do alerts get to the broker, and through it?  Step by step, as each says where to look."""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from edgeasd.checks.verdict import Finding, Verdict, judge
from edgeasd.config import Config, MqttConfig
from edgeasd.errors import BrokerError
from edgeasd.publish.credentials import tls_context
from edgeasd.publish.mqtt import Connection, account, check_broker, in_words
from edgeasd.publish.topics import Topics

_TIMEOUT_S = 5.0
_RETURN_S = 3.0
_EXPIRES_SOON_S = 30 * 86_400


def check_broker_steps(config: Config) -> Iterator[Verdict]:
    """Yield a verdict a step, until one fails: name, connection, TLS, login, message."""
    mqtt = config.mqtt
    steps: dict[str, Callable[[], Finding]] = {
        "name": partial(_resolve, mqtt),
        "connection": partial(_connect, mqtt),
    }
    if mqtt.ca_file is not None:
        steps["TLS"] = partial(_greet, mqtt)
    steps |= {"login": partial(_log_in, mqtt), "message": partial(_exchange, config)}
    for name, step in steps.items():
        verdict = judge(f"broker: {name}", step)
        yield verdict
        if verdict.grade == "failure":
            return


def _resolve(config: MqttConfig) -> Finding:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as exc:
        raise BrokerError(in_words(exc, config)) from exc
    return Finding(f"{config.host} is {', '.join(dict.fromkeys(str(one[4][0]) for one in found))}")


def _connect(config: MqttConfig) -> Finding:
    began_s = time.monotonic()
    _open(config).close()
    return Finding(f"port {config.port} answers in {1000 * (time.monotonic() - began_s):.0f} ms")


def _open(config: MqttConfig) -> socket.socket:
    try:
        return socket.create_connection((config.host, config.port), _TIMEOUT_S)
    except OSError as exc:
        raise BrokerError(in_words(exc, config)) from exc


def _greet(config: MqttConfig) -> Finding:
    context = tls_context(config)
    with _open(config) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=config.host) as secure:
                version, certificate = secure.version(), secure.getpeercert() or {}
        except OSError as exc:
            raise BrokerError(in_words(exc, config)) from exc
    left_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
    text = f"{version}, certificate valid for {left_s / 86_400:.0f} days"
    if left_s < _EXPIRES_SOON_S:
        return Finding(f"{text}; renew it, as no alert gets out after that", doubtful=True)
    return Finding(text)


def _log_in(config: MqttConfig) -> Finding:
    check_broker(config, _TIMEOUT_S)
    return Finding(
        f"accepted as {config.username!r}" if config.username else "accepted anonymously"
    )


def _exchange(config: Config) -> Finding:
    """Publish where the node may and read it back; the account may well be one that cannot read.

    Raises:
        BrokerError: If the broker does not take the message.
    """
    topic = Topics(config.mqtt.base, config.node).check
    token = secrets.token_hex(8).encode()
    connection = _connection(config.mqtt)
    lost: BrokerError | None = None
    try:
        request = connection.subscribe(topic, qos=1)
        _wait(connection, lambda: connection.is_answered(request))
        began_s = time.monotonic()
        connection.publish(topic, token, qos=1)
        if _wait(
            connection, lambda: token in [message.payload for message in connection.received()]
        ):
            return Finding(f"back on {topic} in {1000 * (time.monotonic() - began_s):.0f} ms")
    except BrokerError as exc:
        lost = exc  # some disconnect who publishes what the ACL forbids
    finally:
        connection.close(cleanly=lost is None)
    return _explain(config.mqtt, topic, lost)


def _explain(config: MqttConfig, topic: str, lost: BrokerError | None) -> Finding:
    """Say why a message did not come back."""
    user = account(config)
    takes = _takes(config, topic)
    if takes is False:
        tree = f"{topic.rpartition('/')[0]}/#"
        raise BrokerError(f"broker does not let {user} write {topic}; allow {tree} in its ACL")
    if lost is not None:
        raise lost
    if takes:
        return Finding(f"{topic} is taken; {user} may not read it back, and need not")
    return Finding(
        f"{topic} did not come back; see in the broker's log whether its ACL denies it",
        doubtful=True,
    )


def _takes(config: MqttConfig, topic: str) -> bool | None:
    """Return whether the broker takes a message, by MQTT 5; None if it does not say."""
    try:
        connection = _connection(replace(config, version="5"))
    except BrokerError:
        return None  # it speaks MQTT 3.1.1 only
    try:
        number = connection.publish(topic, b"", qos=1)
        answers: dict[int, str] = {}

        def is_answered() -> bool:
            answers.update(connection.answers())
            return number in answers

        return answers[number] == "" if _wait(connection, is_answered) else None
    except BrokerError:
        return False  # it prefers to disconnect
    finally:
        connection.close(cleanly=True)


def _connection(config: MqttConfig) -> Connection:
    # Another name than the daemon's: the broker would disconnect a running daemon.
    client_id = f"edgeasd-check-{secrets.token_hex(4)}"
    return Connection(config, client_id, connect_timeout_s=_TIMEOUT_S)


def _wait(connection: Connection, holds: Callable[[], bool]) -> bool:
    """Serve *connection* until something *holds*; return whether it came to that in time."""
    end_s = time.monotonic() + _RETURN_S
    while (left_s := end_s - time.monotonic()) > 0:
        connection.serve(left_s)
        if holds():
            return True
    return False
