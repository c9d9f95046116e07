"""Password and certificates of the connection to the broker, read from the files configured."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from edgeasd.common.config.keys import MOST_MQTT_BYTES
from edgeasd.common.errors import ConfigError, os_reason
from edgeasd.common.files.small_file import read_small, require_small

if TYPE_CHECKING:
    from edgeasd.common.config.keys import MqttConfig


def read_password(path: Path | None) -> str | None:
    """Return the first line of the file at *path*; None without a path.

    Raises:
        ConfigError: If it cannot be read, or is too long.
    """
    if path is None:
        return None
    try:
        text = read_small(credential(path)).decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"mqtt.password_file={path} cannot be read ({os_reason(exc)})") from exc
    password = text.split("\n", 1)[0].rstrip("\r")
    if len(password.encode()) > MOST_MQTT_BYTES:
        raise ConfigError(
            f"mqtt.password_file={path} must have at most {MOST_MQTT_BYTES} bytes in its first line"
        )
    return password


def is_open_to_others(path: Path) -> bool:
    """Return whether others than its owner may read or write the file at *path*."""
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:  # reported when the file is read
        return False


def tls_context(config: MqttConfig) -> ssl.SSLContext:
    """Return the TLS context: it verifies the broker's certificate and shows this node's own.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
    """
    try:
        if config.ca_file is not None:
            require_small(config.ca_file)
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as exc:
        raise ConfigError(
            f"mqtt.ca_file={config.ca_file} must be a PEM file of certificates ({os_reason(exc)})"
        ) from exc
    # The operator's choice is trusted as it is, with every Python; 3.13 changed the defaults.  An
    # authority made by `openssl req -x509` lacks the key usage that strict verification asks for,
    # and an intermediate authority may come without the one above it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.sslsocket_class = _TlsSocket
    if config.cert_file is not None and config.key_file is not None:
        try:
            require_small(config.cert_file)
            require_small(credential(config.key_file))
            # An encrypted key fails with the empty password; without one, OpenSSL would ask for it.
            context.load_cert_chain(config.cert_file, credential(config.key_file), password="")
        except OSError as exc:
            raise ConfigError(
                f"mqtt.cert_file={config.cert_file} and mqtt.key_file={config.key_file} must be "
                f"PEM files of a certificate and its unencrypted key ({os_reason(exc)})"
            ) from exc
    return context


def credential(path: Path) -> Path:
    """Return the systemd credential with the name of the file *path*; *path* if there is none.

    Systemd hands the service, which is not root, files that only root may read.  ``edgeasd check``
    run by root reads the file itself.

    References:
        systemd.exec(5), Credentials.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    handed = Path(folder) / path.name
    return handed if folder and handed.exists() else path


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; the client library would leave it open."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # as overridden
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise
