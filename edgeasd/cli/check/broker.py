"""Do alerts get to the broker, and through it?  Step by step, as each says where to look."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial

from edgeasd.cli.check.exchange import (
    AS_THE_DAEMON,
    TIMEOUT_S,
    WAYS,
    Outcome,
    Way,
    connect,
    exchange,
)
from edgeasd.cli.check.others import look_for_others
from edgeasd.cli.check.verdict import Finding, Verdict, judge
from edgeasd.common.config import Config, MqttConfig
from edgeasd.common.errors import BrokerError
from edgeasd.publish.delivery.troubles import NOT_ALLOWED
from edgeasd.publish.mqtt.connection import EndedError
from edgeasd.publish.mqtt.credentials import is_open_to_others, tls_context
from edgeasd.publish.mqtt.faults import account, no_connection
from edgeasd.publish.mqtt.status import ConnectionStatus, StatusFile, account_of
from edgeasd.publish.topics import Topics

EVENT_BYTES = 1_200
"""More than any event takes."""
HEALTH_BYTES, MACHINE_BYTES = 1_500, 1_500
"""More than health takes, and for each machine, when something is wrong with all of them."""

_SMALL_BYTES = 16
_EXPIRES_SOON_S = 30 * 86_400
_CREDENTIALS_REFUSED = (134, 135)
_LIMITS = "mosquitto: max_packet_size, message_size_limit"


def check_broker_steps(config: Config) -> Iterator[Verdict]:
    """Yield a verdict a step, until one fails: from the broker's name to a large message.

    A daemon that runs with the account is not disturbed but asked: some brokers let an account
    connect only once.
    """
    mqtt = config.mqtt
    steps: dict[str, Callable[[], Finding]] = {
        "name": partial(_resolve, mqtt),
        "connection": partial(_reach, mqtt),
    }
    if mqtt.ca_file is not None:
        steps["TLS"] = partial(_greet, mqtt)
    if mqtt.password_file is not None or mqtt.key_file is not None:
        steps["password"] = partial(look_at_password, mqtt)
    daemon = _daemon_with_account(config)
    if daemon is not None:
        steps["daemon"] = partial(_ask, config, daemon)
    else:
        steps |= {
            "login": partial(_log_in, config),
            "node": partial(_listen, config),
            "message": partial(_send, config),
        }
    for name, step in steps.items():
        verdict = judge(f"broker: {name}", step)
        yield verdict
        if verdict.grade == "failure":
            return


def _resolve(config: MqttConfig) -> Finding:
    return Finding(f"{config.host} is {', '.join(_addresses(config))}")


def _addresses(config: MqttConfig) -> list[str]:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as exc:
        raise BrokerError(no_connection(exc, config)) from exc
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _is_here(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _reach(config: MqttConfig) -> Finding:
    began_s = time.monotonic()
    _open(config).close()
    return Finding(f"port {config.port} answers in {1000 * (time.monotonic() - began_s):.0f} ms")


def _open(config: MqttConfig) -> socket.socket:
    try:
        return socket.create_connection((config.host, config.port), TIMEOUT_S)
    except OSError as exc:
        raise BrokerError(no_connection(exc, config)) from exc


def _greet(config: MqttConfig) -> Finding:
    context = tls_context(config)
    with _open(config) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=config.host) as secure:
                version, certificate = secure.version(), secure.getpeercert() or {}
        except OSError as exc:
            raise BrokerError(no_connection(exc, config)) from exc
    left_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
    text = f"{version}, certificate valid for {left_s / 86_400:.0f} days"
    if left_s < _EXPIRES_SOON_S:
        return Finding(f"{text}; renew it, as no alert gets out after that", doubtful=True)
    return Finding(text)


def look_at_password(config: MqttConfig) -> Finding:
    """Say whether others may learn the password or the key."""
    doubts = [
        f"others than its owner may read {path}; chmod 600 it"
        for path in (config.password_file, config.key_file)
        if path is not None and is_open_to_others(path)
    ]
    if config.ca_file is None and not all(map(_is_here, _addresses(config))):
        doubts.append(
            "the password goes over the network in clear; set mqtt.ca_file, and mqtt.port "
            "to the broker's port for TLS"
        )
    if doubts:
        return Finding("; ".join(doubts), doubtful=True)
    return Finding("for its owner alone")


def _log_in(config: Config) -> Finding:
    way, refusal = _way_in(config)
    user = config.mqtt.username
    text = f"accepted as {user!r}" if user else "accepted anonymously"
    if refusal is None:
        return Finding(text)
    lacks = "a retained will" if way.qos else "a will at QoS 1"
    return Finding(
        f"{text}, but not with {lacks} ({_cause(refusal)}): nobody may learn when it is gone",
        doubtful=True,
    )


def _way_in(config: Config) -> tuple[Way, BrokerError | None]:
    """Return the first way in which the broker accepts the connection, and why not the daemon's.

    Raises:
        BrokerError: If it accepts none.
    """
    first: EndedError | None = None
    for way in WAYS:
        refusal = _refusal(config, way)
        if refusal is None:
            return way, first
        first = first or refusal
        if refusal.reason_code in _CREDENTIALS_REFUSED:
            break
    assert first is not None
    raise first


def _refusal(config: Config, way: Way) -> EndedError | None:
    try:
        connect(config, way).close(cleanly=True)
    except EndedError as exc:
        return exc
    return None


def _listen(config: Config) -> Finding:
    """Say who else goes by the name of the node, from what is heard while a message comes back.

    Raises:
        BrokerError: If another client does.
    """
    way, _ = _way_in(config)
    return look_for_others(config, exchange(config, way, _SMALL_BYTES).heard)


def _send(config: Config) -> Finding:
    """Send what is as large as the largest message of the daemon, in its way.

    Raises:
        BrokerError: If the broker does not take it, and events neither.
    """
    largest = HEALTH_BYTES + MACHINE_BYTES * len(config.machine)
    topic = Topics(config.mqtt.base, config.node).check
    outcome = exchange(config, AS_THE_DAEMON, largest)
    if outcome.back_s is not None:
        text = f"{largest} bytes, as health may take, back on {topic}"
        return Finding(f"{text} in {1000 * outcome.back_s:.0f} ms")
    if outcome.passes:
        user = account(config.mqtt)
        return Finding(f"{topic} is taken; {user} may not read it back, and need not")
    if outcome.refusal == NOT_ALLOWED:
        raise BrokerError(_not_allowed(config))
    for way in WAYS:
        small = exchange(config, way, _SMALL_BYTES)
        if small.passes:
            return _explain(config, way, outcome, largest)
        if small.passes is None:
            return Finding(
                f"{topic} did not come back; see in the broker's log whether its ACL denies it",
                doubtful=True,
            )
    raise BrokerError(_refused(config, small))


def _explain(config: Config, way: Way, outcome: Outcome, largest: int) -> Finding:
    """Say what of the daemon's way keeps a message back that comes through in this *way*.

    Raises:
        BrokerError: If alerts are kept back too, or the daemon cannot know.
    """
    said = outcome.refusal if outcome.ended is None else _cause(outcome.ended)
    why = f" ({said})" if said else ""
    n_bytes = EVENT_BYTES if exchange(config, way, EVENT_BYTES).passes is False else largest
    too_large = f"broker takes no message of {n_bytes} bytes{why}; raise its limit ({_LIMITS})"
    if n_bytes == EVENT_BYTES:
        raise BrokerError(f"{too_large}, as alerts take up to so many")
    if way.qos == 0:
        return Finding(
            f"broker takes QoS 0 only{why}, so that alerts may get lost; allow QoS 1 (mosquitto: "
            "max_qos)",
            doubtful=True,
        )
    if not way.retain:
        return Finding(
            f"broker retains no messages{why}, so that who subscribes learns a state only when it "
            "changes; allow them (mosquitto: retain_available)",
            doubtful=True,
        )
    if outcome.is_silent:
        raise BrokerError(f"{too_large}, as it drops larger ones without a word")
    return Finding(f"{too_large}, as health may take so many", doubtful=True)


def _cause(ended: BrokerError) -> str:
    if isinstance(ended, EndedError) and ended.reason_code is None:
        return "it closes the connection without a word"
    return str(ended)


def _refused(config: Config, outcome: Outcome) -> str:
    """Return in words that the broker takes not even a small message."""
    topic = Topics(config.mqtt.base, config.node).check
    if outcome.ended is not None:
        return (
            f"{outcome.ended} when {account(config.mqtt)} wrote {topic}; see in the broker's log "
            "whether its ACL denies it"
        )
    if outcome.refusal == NOT_ALLOWED:
        return _not_allowed(config)
    return f"broker refuses a message on {topic} ({outcome.refusal}); see its log"


def _not_allowed(config: Config) -> str:
    topic = Topics(config.mqtt.base, config.node).check
    tree = f"{topic.rpartition('/')[0]}/#"
    return f"broker does not let {account(config.mqtt)} write {topic}; allow {tree} in its ACL"


def _daemon_with_account(config: Config) -> ConnectionStatus | None:
    """Return how the daemon that runs is connected, if it is by the account of *config*."""
    status = StatusFile(config.state_dir).read()
    own = account_of(config.mqtt)
    is_same = status is not None and status.connected and own != "" and status.account == own
    return status if is_same else None


def _ask(config: Config, daemon: ConnectionStatus) -> Finding:
    """Say what the daemon that runs says, in place of a connection that could disconnect it.

    Raises:
        BrokerError: If alerts do not get out.
    """
    if daemon.fault:
        raise BrokerError(f"the daemon that runs says: {daemon.fault}")
    return Finding(
        f"it is connected as {account(config.mqtt)} and says that all is well; not tried beside "
        "it, as some brokers let an account connect only once"
    )
