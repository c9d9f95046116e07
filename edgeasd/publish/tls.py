"""What TLS with the broker needs."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from edgeasd.errors import ConfigError

if TYPE_CHECKING:
    from edgeasd.config import MqttConfig


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails: the client library leaves it open."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # as overridden
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(config: MqttConfig) -> ssl.SSLContext:
    """Return what TLS with the broker needs.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as exc:
        raise ConfigError(
            f"mqtt.ca_file={config.ca_file} must be a PEM file of certificates "
            f"({exc.strerror or exc})"
        ) from exc
    context.sslsocket_class = _TlsSocket
    if config.cert_file is not None:
        try:
            # The empty password fails on an encrypted key; none at all would ask on the terminal.
            context.load_cert_chain(config.cert_file, config.key_file, password="")
        except OSError as exc:
            raise ConfigError(
                f"mqtt.cert_file={config.cert_file} and mqtt.key_file={config.key_file} must be "
                f"PEM files of a certificate and its unencrypted key ({exc.strerror or exc})"
            ) from exc
    return context
