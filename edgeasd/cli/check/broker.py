"""Checks whether alerts reach the broker and pass it, in steps that each say where to look."""

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
    ExchangeResult,
    Way,
    connect,
    exchange,
)
from edgeasd.cli.check.others import look_for_others
from edgeasd.cli.check.report import CheckReport, CheckResult, run_check
from edgeasd.common.config.keys import Config, MqttConfig
from edgeasd.common.errors import BrokerError
from edgeasd.publish.delivery.troubles import NOT_ALLOWED
from edgeasd.publish.mqtt.connection import EndedError
from edgeasd.publish.mqtt.credentials import is_open_to_others, tls_context
from edgeasd.publish.mqtt.faults import account, no_connection
from edgeasd.publish.mqtt.status import ConnectionStatus, StatusFile, account_of
from edgeasd.publish.topics import Topics

EVENT_BYTES = 1_200
"""Size of a message that is larger than any event."""
HEALTH_BYTES, MACHINE_BYTES = 1_500, 1_500
"""Size of a health message when something is wrong with every machine: in all, and for each."""

_SMALL_BYTES = 16
_EXPIRES_SOON_S = 30 * 86_400
"""Rest of a certificate's life below which the check warns, seconds."""
_CREDENTIALS_REFUSED = (134, 135)
"""Reason codes of MQTT 5 for a wrong user name or password, and for one that is not authorised."""
_LIMITS = "mosquitto: max_packet_size, message_size_limit"


def check_broker_steps(config: Config) -> Iterator[CheckReport]:
    """Yield a report for each step, from the broker's name to a large message, until one fails.

    If the daemon is connected with the same account, its own status is read instead of connecting
    a second time: some brokers let an account connect only once.
    """
    mqtt = config.mqtt
    steps: dict[str, Callable[[], CheckResult]] = {
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
        report = run_check(f"broker: {name}", step)
        yield report
        if report.grade == "failure":
            return


def _resolve(config: MqttConfig) -> CheckResult:
    return CheckResult(f"{config.host} is {', '.join(_addresses(config))}")


def _addresses(config: MqttConfig) -> list[str]:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as exc:
        raise BrokerError(no_connection(exc, config)) from exc
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _is_here(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _reach(config: MqttConfig) -> CheckResult:
    began_s = time.monotonic()
    _open(config).close()
    return CheckResult(
        f"port {config.port} answers in {1000 * (time.monotonic() - began_s):.0f} ms"
    )


def _open(config: MqttConfig) -> socket.socket:
    try:
        return socket.create_connection((config.host, config.port), TIMEOUT_S)
    except OSError as exc:
        raise BrokerError(no_connection(exc, config)) from exc


def _greet(config: MqttConfig) -> CheckResult:
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
        return CheckResult(f"{text}; renew it, or no alert is sent after that", doubtful=True)
    return CheckResult(text)


def look_at_password(config: MqttConfig) -> CheckResult:
    """Check whether others can read the password or the key."""
    doubts = [
        f"others than its owner can read {path}; run: chmod 600 {path}"
        for path in (config.password_file, config.key_file)
        if path is not None and is_open_to_others(path)
    ]
    if config.ca_file is None and not all(map(_is_here, _addresses(config))):
        doubts.append(
            "the password is sent over the network in clear text; set mqtt.ca_file, and mqtt.port "
            "to the broker's port for TLS"
        )
    if doubts:
        return CheckResult("; ".join(doubts), doubtful=True)
    return CheckResult("readable by its owner only")


def _log_in(config: Config) -> CheckResult:
    way, refusal = _way_in(config)
    user = config.mqtt.username
    text = f"accepted as {user!r}" if user else "accepted anonymously"
    if refusal is None:
        return CheckResult(text)
    lacks = "a retained will" if way.qos else "a will at QoS 1"
    return CheckResult(
        f"{text}, but not with {lacks} ({_cause(refusal)}); allow it, or "
        "nobody learns when the node has failed",
        doubtful=True,
    )


def _way_in(config: Config) -> tuple[Way, BrokerError | None]:
    """Return the first way in which the broker accepts us, and why it refuses that of the daemon.

    Raises:
        BrokerError: If it accepts no way.
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


def _listen(config: Config) -> CheckResult:
    """Check whether another client uses the name of the node, while a message comes back.

    Raises:
        BrokerError: If one does.
    """
    way, _ = _way_in(config)
    return look_for_others(config, exchange(config, way, _SMALL_BYTES).heard)


def _send(config: Config) -> CheckResult:
    """Send a message as large as the largest of the daemon, in the same way.

    Raises:
        BrokerError: If the broker accepts neither it nor a message as large as an event.
    """
    largest = HEALTH_BYTES + MACHINE_BYTES * len(config.machine)
    topic = Topics(config.mqtt.base, config.node).check
    outcome = exchange(config, AS_THE_DAEMON, largest)
    if outcome.back_s is not None:
        text = f"{largest} bytes, the most that health takes, came back on {topic}"
        return CheckResult(f"{text} in {1000 * outcome.back_s:.0f} ms")
    if outcome.passes:
        user = account(config.mqtt)
        return CheckResult(f"{topic} is accepted; {user} may not read it back, and need not")
    if outcome.refusal == NOT_ALLOWED:
        raise BrokerError(_not_allowed(config))
    for way in WAYS:
        small = exchange(config, way, _SMALL_BYTES)
        if small.passes:
            return _explain(config, way, outcome, largest)
        if small.passes is None:
            return CheckResult(
                f"{topic} did not come back; see in the broker's log whether its ACL denies it",
                doubtful=True,
            )
    raise BrokerError(_refused(config, small))


def _explain(config: Config, way: Way, outcome: ExchangeResult, largest: int) -> CheckResult:
    """Say why a message that passes in this *way* does not pass as the daemon sends it.

    Raises:
        BrokerError: If alerts do not pass either, or the broker drops them without telling us.
    """
    said = outcome.refusal if outcome.ended is None else _cause(outcome.ended)
    why = f" ({said})" if said else ""
    n_bytes = EVENT_BYTES if exchange(config, way, EVENT_BYTES).passes is False else largest
    too_large = f"broker accepts no message of {n_bytes} bytes{why}; raise its limit ({_LIMITS})"
    if n_bytes == EVENT_BYTES:
        raise BrokerError(f"{too_large}, as alerts may be that large")
    if way.qos == 0:
        return CheckResult(
            f"broker accepts only QoS 0{why}, so alerts may be lost; allow QoS 1 (mosquitto: "
            "max_qos)",
            doubtful=True,
        )
    if not way.retain:
        return CheckResult(
            f"broker retains no messages{why}, so new subscribers learn a state only when it "
            "changes; allow retained messages (mosquitto: retain_available)",
            doubtful=True,
        )
    if outcome.is_silent:
        raise BrokerError(f"{too_large}, as it drops larger ones silently")
    return CheckResult(f"{too_large}, as health may be that large", doubtful=True)


def _cause(ended: BrokerError) -> str:
    if isinstance(ended, EndedError) and ended.reason_code is None:
        return "it closes the connection without a reason"
    return str(ended)


def _refused(config: Config, outcome: ExchangeResult) -> str:
    """Return the message for a broker that does not accept even a small message."""
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
    """Return the connection of the running daemon, if it uses the account of *config*."""
    status = StatusFile(config.state_dir).read()
    own = account_of(config.mqtt)
    is_same = status is not None and status.connected and own != "" and status.account == own
    return status if is_same else None


def _ask(config: Config, daemon: ConnectionStatus) -> CheckResult:
    """Report the status of the running daemon, which a second connection could disconnect.

    Raises:
        BrokerError: If the daemon reports that alerts are not sent.
    """
    if daemon.fault:
        raise BrokerError(f"the running daemon reports: {daemon.fault}")
    return CheckResult(
        f"it is connected as {account(config.mqtt)} and reports no fault; no second connection was "
        "tried, as some brokers let an account connect only once"
    )
