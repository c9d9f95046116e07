"""A fault of a broker is reported with its remedy; TLS is verified."""

from __future__ import annotations

import dataclasses
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from edgeasd.common.config.keys import MqttConfig
from edgeasd.common.errors import BrokerError, ConfigError
from edgeasd.publish.mqtt.connection import Connection, require_files
from tests.publish.brokers import Mosquitto, Subscriber, connect_once, free_port
from tests.publish.certificates import Authority
from tests.publish.scripted_broker import ScriptedBroker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.network


def config_for(port: int, **more: Any) -> MqttConfig:
    """A configuration for a broker on the loopback interface."""
    return MqttConfig(**{"host": "127.0.0.1", "port": port, **more})


def failure(config: MqttConfig, timeout_s: float = 5.0) -> str:
    """The error of a connection that cannot be made."""
    with pytest.raises(BrokerError) as caught:
        connect_once(config, timeout_s)
    return str(caught.value)


def test_connection_to_a_good_one_passes(mosquitto: Mosquitto) -> None:
    """A broker that accepts the connection raises nothing."""
    connect_once(config_for(mosquitto.port))


def test_connection_to_an_unknown_host_says_so() -> None:
    """The message for a name that does not resolve names mqtt.host."""
    said = failure(MqttConfig(host="no-such-broker.invalid"))

    assert said == (
        "host name 'no-such-broker.invalid' does not resolve; check mqtt.host and the network"
    )


@pytest.mark.parametrize("host", ["", "a..b", "x" * 70 + ".example"])
def test_connection_to_an_impossible_host_says_so(host: str) -> None:
    """A malformed name is reported too; it would kill the thread of the MQTT library."""
    said = failure(MqttConfig(host=host))

    assert said == f"mqtt.host={host!r} must be a host name or address"


def test_connection_to_a_port_where_nobody_listens_says_so() -> None:
    """A refused connection names the address."""
    port = free_port()

    said = failure(config_for(port))

    assert said == (
        f"connection refused at 127.0.0.1:{port}; check mqtt.port and that the broker runs"
    )


def test_connection_to_a_broker_that_does_not_answer_gives_up(
    make_broker: Callable[..., ScriptedBroker],
) -> None:
    """A broker that accepts and stays silent takes no longer than the time-out."""
    port = make_broker(greets=False).port

    said = failure(config_for(port), timeout_s=0.2)

    assert said == (f"no answer from 127.0.0.1:{port}; check mqtt.host, mqtt.port and firewalls")


def test_connection_to_a_broker_with_the_right_password_passes(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """The password is the first line of its file, whatever ends it."""
    broker = make_mosquitto({"edge": "gehe im"})
    broker.start()
    password_file = tmp_path / "password"

    for content in ("gehe im", "gehe im\n", "gehe im\r\nsecond line\n"):
        password_file.write_bytes(content.encode())
        connect_once(config_for(broker.port, username="edge", password_file=password_file))


def test_connection_to_a_broker_with_a_wrong_password_says_so(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """The message names the account and the keys to look at, never the password."""
    broker = make_mosquitto({"edge": "right"})
    broker.start()
    (tmp_path / "password").write_text("wrong")

    said = failure(config_for(broker.port, username="edge", password_file=tmp_path / "password"))

    assert said == (
        f"broker at 127.0.0.1:{broker.port} refuses the user name 'edge' or its password; "
        "check mqtt.username and mqtt.password_file"
    )


def test_connection_to_a_broker_without_a_user_name_where_one_is_needed_says_so(
    make_mosquitto: Callable[..., Mosquitto],
) -> None:
    """An anonymous client that is refused learns which keys to set."""
    broker = make_mosquitto({"edge": "right"})
    broker.start()

    said = failure(config_for(broker.port))

    assert said == (
        f"broker at 127.0.0.1:{broker.port} refuses clients without a user name; "
        "set mqtt.username and mqtt.password_file"
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority."""
    return Authority(tmp_path / "authority")


def tls_lines(authority: Authority, host: str = "localhost", *more: str) -> list[str]:
    """The lines that a mosquitto with a certificate for *host* needs."""
    certificate, key = authority.issue("broker", host)
    return [f"cafile {authority.ca_file}", f"certfile {certificate}", f"keyfile {key}", *more]


def test_connection_with_tls_delivers(
    make_mosquitto: Callable[..., Mosquitto], authority: Authority
) -> None:
    """Many messages pass an encrypted connection, and their acknowledgements come back."""
    broker = make_mosquitto(lines=tls_lines(authority))
    broker.start()
    connection = Connection(config_for(broker.port, ca_file=authority.ca_file), "edge-03")

    numbers = [connection.publish("topic", bytes(5000), qos=1) for _ in range(100)]
    answers: list[tuple[int, str]] = []
    while len(answers) < len(numbers):
        connection.serve(1.0)
        answers += connection.answers()

    connection.close(cleanly=True)
    assert answers == [(number, "") for number in numbers]


def test_connection_to_a_broker_with_an_unknown_authority_says_so(
    make_mosquitto: Callable[..., Mosquitto], authority: Authority, tmp_path: Path
) -> None:
    """A certificate that another authority signed is not accepted."""
    broker = make_mosquitto(lines=tls_lines(authority))
    broker.start()
    other = Authority(tmp_path / "other")

    said = failure(config_for(broker.port, ca_file=other.ca_file))

    assert re.fullmatch(
        rf"certificate of 127\.0\.0\.1:{broker.port} is not accepted \(.+\); "
        r"check mqtt\.ca_file, and that mqtt\.host is a name in the certificate",
        said,
    )


def test_connection_to_a_broker_with_the_certificate_of_another_host_says_so(
    make_mosquitto: Callable[..., Mosquitto], authority: Authority
) -> None:
    """The name in the certificate is verified."""
    broker = make_mosquitto(lines=tls_lines(authority, "elsewhere.example"))
    broker.start()

    said = failure(config_for(broker.port, host="localhost", ca_file=authority.ca_file))

    assert "is not accepted (Hostname mismatch" in said


def test_connection_to_a_broker_with_a_client_certificate_passes_and_without_says_so(
    make_mosquitto: Callable[..., Mosquitto], authority: Authority
) -> None:
    """With mutual TLS a client without a certificate learns which key to set."""
    broker = make_mosquitto(lines=tls_lines(authority, "localhost", "require_certificate true"))
    broker.start()
    certificate, key = authority.issue("edge-03", "edge-03")
    config = config_for(broker.port, ca_file=authority.ca_file)

    connect_once(dataclasses.replace(config, cert_file=certificate, key_file=key))
    said = failure(config)

    assert "mqtt.cert_file" in said


def test_connection_to_a_broker_with_tls_on_one_side_only_says_so(
    make_mosquitto: Callable[..., Mosquitto], authority: Authority, mosquitto: Mosquitto
) -> None:
    """A plain client at a TLS port, and a TLS client at a plain port, both learn what is wrong."""
    encrypted = make_mosquitto(lines=tls_lines(authority))
    encrypted.start()

    plain_client = failure(config_for(encrypted.port))
    tls_client = failure(config_for(mosquitto.port, ca_file=authority.ca_file))

    assert "whether it wants TLS (mqtt.ca_file)" in plain_client
    assert re.search(r"TLS with .* fails \(.+\); check mqtt.port", tls_client)


def test_require_files_of_good_ones_passes(authority: Authority, tmp_path: Path) -> None:
    """Files that can be used raise nothing."""
    certificate, key = authority.issue("edge-03", "edge-03")
    (tmp_path / "password").write_text("secret\n")

    require_files(
        MqttConfig(
            username="edge",
            password_file=tmp_path / "password",
            ca_file=authority.ca_file,
            cert_file=certificate,
            key_file=key,
        )
    )


def test_require_files_of_a_missing_password_file_raises(tmp_path: Path) -> None:
    """The message names the file."""
    path = tmp_path / "missing"

    with pytest.raises(ConfigError) as caught:
        require_files(MqttConfig(username="edge", password_file=path))

    assert str(caught.value) == (
        f"mqtt.password_file={path} cannot be read (No such file or directory)"
    )


def test_require_files_of_a_password_that_is_no_text_raises(tmp_path: Path) -> None:
    """A binary file given as the password file is refused."""
    (tmp_path / "key.der").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigError, match=r"key\.der cannot be read"):
        require_files(MqttConfig(username="edge", password_file=tmp_path / "key.der"))


def test_require_files_of_no_certificates_raises(authority: Authority, tmp_path: Path) -> None:
    """Each unusable file is named; an encrypted key does not ask for its password."""
    certificate, key = authority.issue("edge-03", "edge-03")
    other_key = authority.issue("edge-04", "edge-04")[1]
    (tmp_path / "text").write_text("no certificate")
    good = MqttConfig(ca_file=authority.ca_file, cert_file=certificate, key_file=key)
    wrong = [
        ("mqtt.ca_file", dataclasses.replace(good, ca_file=tmp_path / "text")),
        ("mqtt.ca_file", dataclasses.replace(good, ca_file=tmp_path / "missing")),
        ("mqtt.cert_file", dataclasses.replace(good, cert_file=tmp_path / "text")),
        ("mqtt.cert_file", dataclasses.replace(good, key_file=other_key)),
        ("mqtt.cert_file", dataclasses.replace(good, key_file=authority.encrypted(key))),
    ]

    for name, config in wrong:
        with pytest.raises(ConfigError, match=rf"^{name}=.* must be (a )?PEM file"):
            require_files(config)


@pytest.mark.parametrize("cleanly", [True, False])
def test_connection_closed_uncleanly_leaves_the_will(
    mosquitto: Mosquitto, subscribe: Callable[..., Subscriber], *, cleanly: bool
) -> None:
    """The broker publishes the will, retained, unless the connection was closed cleanly."""
    subscriber = subscribe(mosquitto.port)
    will = ("availability", b"offline")
    connection = Connection(config_for(mosquitto.port), "edge-03", will=will)

    connection.close(cleanly=cleanly)

    # What another client publishes afterwards comes after the will.
    other = Connection(config_for(mosquitto.port), "other")
    other.publish("last", b"", qos=1)
    subscriber.wait_for("last", b"")
    other.close(cleanly=True)
    assert subscriber.on("availability") == ([] if cleanly else [b"offline"])


def test_connection_that_breaks_raises(mosquitto: Mosquitto) -> None:
    """Serving a connection that is gone raises that it was lost."""
    connection = Connection(config_for(mosquitto.port), "edge-03")
    mosquitto.kill()

    def serve_until_it_ends() -> None:
        while True:
            connection.serve(1.0)

    with pytest.raises(BrokerError) as caught:
        serve_until_it_ends()

    assert str(caught.value) == f"connection to the broker at 127.0.0.1:{mosquitto.port} was lost"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x8B, "Server shutting down"),
        (
            0x8E,
            "Session taken over; another client has the id edge-03 or the account, give each its "
            "own",
        ),
    ],
)
def test_connection_by_mqtt_5_that_the_broker_ends_tells_why(code: int, words: str) -> None:
    """The reason in the broker's DISCONNECT is reported.  Mosquitto 2.0.11 gives none."""
    connack, disconnect = b"\x20\x03\x00\x00\x00", bytes([0xE0, 2, code, 0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(connack + disconnect)
                sock.recv(1000)

        broker = threading.Thread(target=serve)
        broker.start()
        connection = Connection(config_for(port, version="5"), "edge-03")
        with pytest.raises(BrokerError) as caught:
            connection.serve(5.0)
        broker.join()

    assert str(caught.value) == f"broker at 127.0.0.1:{port} ends the connection: {words}"
