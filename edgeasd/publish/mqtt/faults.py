"""Why a connection cannot be made, or ends: in words, with the remedy."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

from edgeasd.common.errors import os_reason

if TYPE_CHECKING:
    from edgeasd.common.config.keys import MqttConfig

# Reason codes of MQTT 5, section 3.2.2.2; the client maps the return codes of MQTT 3.1.1 to them.
# Mosquitto answers a wrong password with "not authorised".
_BAD_PASSWORD_OR_NOT_AUTHORISED = (134, 135)
_TAKEN_OVER = 142


def address(config: MqttConfig) -> str:
    """Return host and port of the broker."""
    return f"{config.host}:{config.port}"


def account(config: MqttConfig) -> str:
    """Return in words as whom the broker sees this client."""
    return f"user {config.username!r}" if config.username else "anonymous users"


def no_connection(exc: OSError | ValueError, config: MqttConfig) -> str:  # noqa: PLR0911  # causes
    """Return why *exc* kept a connection from being made."""
    match exc:
        case socket.gaierror():
            return f"host name {config.host!r} does not resolve; check mqtt.host and the network"
        case ssl.SSLCertVerificationError():
            return (
                f"certificate of {address(config)} is not accepted ({exc.verify_message}); "
                "check mqtt.ca_file, and that mqtt.host is a name in the certificate"
            )
        case ConnectionRefusedError():
            return (
                f"connection refused at {address(config)}; check mqtt.port and that the broker runs"
            )
        case ssl.SSLError() | ConnectionError():
            return (
                f"TLS with {address(config)} fails ({os_reason(exc)}); check mqtt.port and "
                "mqtt.ca_file"
            )
        case TimeoutError():
            return f"no answer from {address(config)}; check mqtt.host, mqtt.port and firewalls"
        case ValueError():
            return f"mqtt.host={config.host!r} must be a host name or address"
        case _:
            return f"{address(config)} cannot be reached ({os_reason(exc)})"


def refusal(reason: Any, config: MqttConfig) -> str:
    """Return what the broker does when it refuses a connection for *reason*."""
    if reason.value not in _BAD_PASSWORD_OR_NOT_AUTHORISED:
        return f"refuses the connection: {reason}"
    if config.username:
        return (
            f"refuses the user name {config.username!r} or its password; "
            "check mqtt.username and mqtt.password_file"
        )
    return "refuses clients without a user name; set mqtt.username and mqtt.password_file"


def disconnection(reason: Any, client_id: str) -> str:
    """Return what the broker does when it ends a connection for *reason*."""
    words = f"ends the connection: {reason}"
    if reason.value == _TAKEN_OVER:
        words += f"; another client has the id {client_id} or the account, give each its own"
    return words


def end(config: MqttConfig, reason: str, *, was_accepted: bool) -> str:
    """Return why a connection ended.

    Args:
        config: Broker and account.
        reason: What the broker did, as `refusal` or `disconnection` return it; empty if it did not
            say.
        was_accepted: Whether the broker had accepted the connection.
    """
    broker = f"broker at {address(config)}"
    if reason:
        return f"{broker} {reason}"
    if was_accepted:
        return f"connection to the {broker} was lost"
    return (
        f"{broker} closes the connection without a word; check that mqtt.port speaks "
        f"MQTT {config.version}, and whether it wants TLS (mqtt.ca_file) or a "
        "certificate (mqtt.cert_file)"
    )
