"""The MQTT client library, made safe; no other module imports it.

The library reads and keeps whatever a broker sends; `inbound` prevents that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho  # noqa: TID251  # this module is the one place for it
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode  # noqa: TID251  # as above
from paho.mqtt.packettypes import PacketTypes  # noqa: TID251  # as above
from paho.mqtt.properties import Properties  # noqa: TID251  # as above

from edgeasd.publish.mqtt.credentials import read_password, tls_context
from edgeasd.publish.mqtt.inbound import MAX_RECEIVED_BYTES, Inbound
from edgeasd.publish.mqtt.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeasd.common.config.keys import MqttConfig

PROTOCOL_ERROR = MQTTErrorCode.MQTT_ERR_PROTOCOL
"""What the client returns for a packet that it cannot read."""

_RECEIVE_MAXIMUM = 20
"""Messages at QoS 1 that the broker may send before the first is answered."""
_READ_BYTES = 16_384
_MOST_READS = 64  # reads in a row, after which other work has its turn


class Client(paho.Client):
    """The library's client, which reads from the broker only what is wanted.

    Attributes:
        inbound: Bytes that came from the broker.
        on_ping: Called for each ping sent.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.inbound = Inbound()
        self.on_ping: Callable[[], None] = lambda: None
        super().__init__(*args, **kwargs)

    def ping(self) -> None:
        """Send a ping now, whatever the keepalive interval."""
        self._send_pingreq()

    def _send_pingreq(self) -> MQTTErrorCode:
        self.on_ping()
        code = super()._send_pingreq()
        if self.keepalive == 0:
            self._ping_t = 0.0  # otherwise the library would time out at once
        return code

    def _sock_recv(self, bufsize: int) -> bytes:
        for _ in range(_MOST_READS):
            if self.inbound.has_bytes:
                return self.inbound.take(bufsize)
            received = super()._sock_recv(_READ_BYTES)
            if not received:
                return received
            self.inbound.feed(received, congested=self.want_write())
        raise BlockingIOError  # all bytes received were skipped


def new_client(config: MqttConfig, client_id: str) -> Client:
    """Return a client, not connected.

    Raises:
        ConfigError: If a file that *config* names cannot be used.
    """
    is_5 = config.version == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=paho.MQTTv5 if is_5 else paho.MQTTv311,
        # With MQTT 5 too the library starts a new session, which ends with the connection.
        clean_session=None if is_5 else True,
        reconnect_on_failure=False,
    )
    client.max_inflight_messages_set(0)  # no queue in memory: the caller limits the number
    if config.username:
        client.username_pw_set(config.username, read_password(config.password_file))
    if config.ca_file is not None:
        client.tls_set_context(tls_context(config))
    return client


def own_limits(config: MqttConfig) -> Properties | None:
    """Return the limits of this client for the broker, which only MQTT 5 transmits."""
    if config.version != "5":
        return None
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # the library
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    properties.MaximumPacketSize = MAX_RECEIVED_BYTES
    return properties


def limits_of(properties: Properties | None) -> Limits:
    """Return the limits that the broker announces."""
    none = Limits()
    return Limits(
        receive_maximum=getattr(properties, "ReceiveMaximum", none.receive_maximum),
        maximum_packet_size=getattr(properties, "MaximumPacketSize", none.maximum_packet_size),
        maximum_qos=getattr(properties, "MaximumQoS", none.maximum_qos),
        retain_available=bool(getattr(properties, "RetainAvailable", none.retain_available)),
    )
