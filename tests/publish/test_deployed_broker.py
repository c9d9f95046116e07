"""The shipped broker configuration, on a real mosquitto: who may connect, and do what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgeasd.common.config.keys import MqttConfig
from edgeasd.common.errors import BrokerError
from edgeasd.publish.mqtt.connection import Connection
from edgeasd.publish.topics import Topics
from tests.publish.brokers import Mosquitto, connect_once, wait_until
from tests.publish.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.network

DEPLOY = Path(__file__).parents[2] / "deploy"
OWN, OTHER = Topics("", "edge-01"), Topics("", "edge-02")
ACCOUNTS = {"edge-01": "secret", "edge-02": "secret2", "viewer": "secret3"}
BY_CERTIFICATE = {
    "#cafile ": "cafile ",
    "#require_certificate true": "require_certificate true",
    "#use_identity_as_username true": "use_identity_as_username true",
    "password_file ": "#password_file ",
}


class DeployedMosquitto(Mosquitto):
    """A mosquitto with the files of deploy/, but for port, user and folders.

    Args:
        folder: For its files.
        authority: Signs its certificate, and those of clients.
        changes: Texts of its configuration and what they become.
    """

    def __init__(self, folder: Path, authority: Authority, changes: dict[str, str]) -> None:
        super().__init__(folder, ACCOUNTS)
        self.acl = folder / "acl"
        self.acl.write_text((DEPLOY / "mosquitto.acl").read_text())
        certificate, key = authority.issue("broker", "localhost")
        text = (DEPLOY / "mosquitto.conf").read_text()
        for old, new in {
            "listener 8883": f"user root\nlistener {self.port} 127.0.0.1",
            "/etc/mosquitto/certs/broker.pem": str(certificate),
            "/etc/mosquitto/certs/broker.key": str(key),
            "/etc/mosquitto/certs/ca.pem": str(authority.ca_file),
            "/etc/mosquitto/acl": str(self.acl),
            "password_file /etc/mosquitto/passwords": f"password_file {folder}/passwords",
            "persistence_location /var/lib/mosquitto/": f"persistence_location {folder}/",
            **changes,
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        self._config.write_text(text)
        self._saved = folder / "mosquitto.db"

    def saved_bytes(self) -> int:
        """Size of its saved state."""
        return self._saved.stat().st_size


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority."""
    return Authority(tmp_path_factory.mktemp("authority") / "files")


@pytest.fixture
def deploy(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., DeployedMosquitto]]:
    """Starts brokers with the files of deploy/, and stops them in the end."""
    made: list[DeployedMosquitto] = []

    def start(changes: dict[str, str] | None = None) -> DeployedMosquitto:
        folder = tmp_path / f"broker{len(made)}"
        made.append(DeployedMosquitto(folder, authority, changes or {}))
        made[-1].start()
        return made[-1]

    yield start
    for broker in made:
        broker.stop()


@pytest.fixture
def config_of(tmp_path: Path, authority: Authority) -> Callable[..., MqttConfig]:
    """Makes configurations of the accounts."""

    def make(broker: Mosquitto, account: str, **more: Any) -> MqttConfig:
        password_file = tmp_path / f"{account}.password"
        password_file.write_text(ACCOUNTS[account])
        named = {"username": account, "password_file": password_file, "version": "5", **more}
        return MqttConfig("localhost", broker.port, ca_file=authority.ca_file, **named)

    return make


class Consumer:
    """A client that subscribes with an account and collects the messages."""

    def __init__(self, config: MqttConfig, *filters: str) -> None:
        self.connection = Connection(config, f"consumer-{config.username}")
        for topic_filter in filters or ("edgeasd/v1/#",):
            self.connection.subscribe(topic_filter, qos=1)
        self.got: list[tuple[str, bytes]] = []

    def take(self) -> None:
        """Collect the messages that came."""
        self.got += [(one.topic, one.payload) for one in self.connection.received()]

    def wait_for(self, topic: str, payload: bytes) -> None:
        """Wait for a message."""

        def found() -> bool:
            self.connection.serve(0.1)
            self.take()
            return (topic, payload) in self.got

        wait_until(found, f"{payload!r} on {topic}")


def answer(
    connection: Connection, topic: str, payload: bytes | None = None, *, retain: bool = False
) -> str:
    """Publish on *topic*, and return why the broker refuses it; empty if it does not."""
    if payload is None:
        payload = b"by " + topic.encode()
    number = connection.publish(topic, payload, qos=1, retain=retain)
    answers: dict[int, str] = {}

    def answered() -> bool:
        connection.serve(0.1)
        answers.update(connection.answers())
        return number in answers

    wait_until(answered, "answered")
    return answers[number]


def test_deployed_broker_lets_a_node_write_its_own_topics_only(
    deploy: Callable[..., DeployedMosquitto], config_of: Callable[..., MqttConfig]
) -> None:
    """Messages on a node's own topics reach a consumer; all others of the node do not."""
    broker = deploy()
    consumer = Consumer(config_of(broker, "viewer"))
    node = Connection(config_of(broker, "edge-01"), "edgeasd-edge-02")  # any client id will do

    own = [OWN.availability, OWN.health, OWN.check, OWN.state("m"), OWN.score("m"), OWN.event("m")]
    others = [
        *(OTHER.availability, OTHER.event("m"), "edgeasd/v1", "elsewhere", "$SYS/broker/uptime"),
        *(
            f"edgeasd/v1/edge-01/{rest}"
            for rest in ("", "m", "m/event/more", "m/other", "/m/event")
        ),
    ]
    refusals = [answer(node, topic) for topic in others]
    accepted = [answer(node, topic) for topic in own]

    consumer.wait_for(own[-1], b"by " + own[-1].encode())
    assert refusals == ["Not authorized"] * len(others)
    assert accepted == [""] * len(own)
    assert [topic for topic, _ in consumer.got] == own
    for connection in (node, consumer.connection):
        connection.close(cleanly=True)


def test_deployed_broker_lets_consumers_read_only(
    deploy: Callable[..., DeployedMosquitto], config_of: Callable[..., MqttConfig]
) -> None:
    """An account that reads the alerts cannot publish one."""
    broker = deploy()
    viewer = Connection(config_of(broker, "viewer"), "viewer")

    forged = [
        answer(viewer, topic, retain=True)
        for topic in (OWN.event("m"), OWN.state("m"), Topics("", "viewer").check, "elsewhere")
    ]
    viewer.close(cleanly=True)

    assert forged == ["Not authorized"] * len(forged)


def test_deployed_broker_passes_no_will_on_another_node(
    deploy: Callable[..., DeployedMosquitto], config_of: Callable[..., MqttConfig]
) -> None:
    """No account can report a node as offline by a will on its topic."""
    broker = deploy()
    consumer = Consumer(config_of(broker, "viewer"))

    for topic in (OWN.availability, OTHER.availability):
        will = (topic, b"offline")
        Connection(config_of(broker, "edge-02"), "node", will=will).close(cleanly=False)
    consumer.wait_for(OTHER.availability, b"offline")
    consumer.connection.close(cleanly=True)

    assert [topic for topic, _ in consumer.got] == [OTHER.availability]


@pytest.mark.parametrize(
    ("account", "reads"),
    [("viewer", [OWN.availability, OWN.event("m"), OTHER.health]), ("edge-01", [OWN.availability])],
)
def test_deployed_broker_lets_an_account_read_what_concerns_it(
    deploy: Callable[..., DeployedMosquitto],
    config_of: Callable[..., MqttConfig],
    account: str,
    reads: list[str],
) -> None:
    """A consumer reads all nodes, a node its own topics; neither reads those of the broker."""
    broker = deploy({"acl_file": "sys_interval 1\nacl_file"})
    nodes = [Connection(config_of(broker, name), name) for name in ("edge-01", "edge-02")]
    for node, topic in zip(
        (nodes[0], nodes[0], nodes[1]),
        (OWN.availability, OWN.event("m"), OTHER.health),
        strict=True,
    ):
        assert answer(node, topic, retain=True) == ""
    for node in nodes:
        node.close(cleanly=True)

    reader = Consumer(config_of(broker, account), "#", "$SYS/#")
    last = Topics("", account).check
    reader.wait_for(reads[-1], b"by " + reads[-1].encode())
    answer(reader.connection, last)
    reader.connection.serve(0.2)
    reader.take()

    assert sorted({topic for topic, _ in reader.got} - {last}) == sorted(reads)


@pytest.mark.parametrize("by_certificate", [False, True])
def test_deployed_broker_ties_the_client_id_to_the_account(
    deploy: Callable[..., DeployedMosquitto], authority: Authority, *, by_certificate: bool
) -> None:
    """Whatever client id another account uses, it gets neither the connection nor the queue."""
    broker = deploy(BY_CERTIFICATE if by_certificate else None)

    def client(account: str, client_id: str, *, forgets: bool) -> paho.Client:
        made = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=forgets)
        certificate, key = authority.issue(account, account)
        made.tls_set(str(authority.ca_file), str(certificate), str(key))
        made.username_pw_set(account, ACCOUNTS[account])
        made.on_message = lambda _client, _data, message: got.append(bytes(message.payload))
        made.on_subscribe = lambda *_: ready.append(account)
        made.on_disconnect = lambda *_: ended.append(account)
        n_before = len(ready)
        made.connect("localhost", broker.port)
        made.subscribe("edgeasd/v1/+/+/event", qos=1)
        made.loop_start()
        wait_until(lambda: len(ready) > n_before, f"{account} is served")
        return made

    def leave(one: paho.Client) -> None:
        one.disconnect()
        one.loop_stop()

    got: list[bytes] = []
    ready: list[str] = []
    ended: list[str] = []
    leave(client("viewer", "historian", forgets=False))
    node = client("edge-01", "edgeasd-edge-01", forgets=True)
    node.publish(OWN.event("m"), b"waits", qos=1).wait_for_publish(60)
    ended.clear()
    for taken in ("historian", "viewer", "edgeasd-edge-01", "edge-01"):
        leave(client("edge-02", taken, forgets=True))
    node.publish(OWN.event("m"), b"waits too", qos=1).wait_for_publish(60)
    back = client("viewer", "another id", forgets=False)
    wait_until(lambda: len(got) == 2, "what waited")
    leave(back)
    leave(node)

    assert got == [b"waits", b"waits too"]
    assert set(ended[:4]) == {"edge-02"}


def test_deployed_broker_refuses_what_no_node_sends_for_its_size(
    deploy: Callable[..., DeployedMosquitto], config_of: Callable[..., MqttConfig]
) -> None:
    """A message larger than any of a node ends the sender's connection and is not delivered."""
    broker = deploy()
    consumer = Consumer(config_of(broker, "viewer"))
    node = Connection(config_of(broker, "edge-01"), "node")

    node.publish(OWN.health, b"x" * 200_000, qos=1, retain=True)
    with pytest.raises(BrokerError):
        node.serve(10.0)
    node = Connection(config_of(broker, "edge-01"), "node")
    assert answer(node, OWN.health) == ""
    consumer.wait_for(OWN.health, b"by " + OWN.health.encode())

    assert len(consumer.got) == 1


def test_deployed_broker_bounds_what_an_account_makes_it_keep(
    deploy: Callable[..., DeployedMosquitto], config_of: Callable[..., MqttConfig]
) -> None:
    """Memory and disk stay within the limit, and small messages still get through."""
    limit = 5_000_000
    broker = deploy({"memory_limit 300000000": f"memory_limit {limit}"})
    node = Connection(config_of(broker, "edge-01"), "node")

    def fill() -> None:
        for number in range(2 * limit // 150_000):
            answer(node, OWN.state(f"m{number}"), b"x" * 150_000, retain=True)

    with pytest.raises(BrokerError):
        fill()
    other = Connection(config_of(broker, "edge-02"), "node")
    refusal = answer(other, OTHER.event("m"))
    other.close(cleanly=True)

    assert refusal in {"", "No matching subscribers"}
    assert broker.saved_bytes() < 2 * limit


def test_deployed_broker_serves_nobody_in_clear_or_unknown(
    deploy: Callable[..., DeployedMosquitto], config_of: Callable[..., MqttConfig]
) -> None:
    """Without TLS, without an account or with a wrong password nobody gets in."""
    broker = deploy()
    right = config_of(broker, "edge-01")
    wrong_file = Path(str(right.password_file) + ".wrong")
    wrong_file.write_text("wrong")

    refused = [
        MqttConfig("localhost", broker.port),
        MqttConfig("localhost", broker.port, ca_file=right.ca_file, version="5"),
        config_of(broker, "edge-01", password_file=wrong_file),
    ]

    connect_once(right)
    for config in refused:
        with pytest.raises(BrokerError):
            connect_once(config)


def test_deployed_broker_with_certificates_takes_the_common_name_for_the_node(
    deploy: Callable[..., DeployedMosquitto], authority: Authority
) -> None:
    """With the three lines in force a certificate of the right name is needed, and no password."""
    broker = deploy(BY_CERTIFICATE)
    certificate, key = authority.issue("edge-01", "edge-01")
    without = MqttConfig("localhost", broker.port, ca_file=authority.ca_file, version="5")
    config = MqttConfig(
        "localhost",
        broker.port,
        ca_file=authority.ca_file,
        cert_file=certificate,
        key_file=key,
        version="5",
    )

    node = Connection(config, "node")
    with pytest.raises(BrokerError, match=r"mqtt\.cert_file"):
        connect_once(without)

    assert answer(node, OWN.event("m")) == ""
    assert answer(node, OTHER.event("m")) == "Not authorized"
    node.close(cleanly=True)


def test_deployed_broker_killed_keeps_what_waits_for_a_consumer(
    deploy: Callable[..., DeployedMosquitto], config_of: Callable[..., MqttConfig]
) -> None:
    """A message that mosquitto acknowledged reaches a consumer that was away, even after a kill."""
    broker = deploy()
    config = config_of(broker, "viewer")

    def consumer() -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="historian", clean_session=False
        )
        client.tls_set(str(config.ca_file))
        client.username_pw_set("viewer", ACCOUNTS["viewer"])
        client.on_message = lambda _client, _data, message: got.append(bytes(message.payload))
        client.on_subscribe = lambda *_: subscribed.append(True)
        client.connect("localhost", broker.port)
        client.subscribe("edgeasd/v1/+/+/event", qos=1)
        client.loop_start()
        wait_until(lambda: subscribed, "subscribed")
        return client

    got: list[bytes] = []
    subscribed: list[bool] = []
    away = consumer()
    away.disconnect()
    away.loop_stop()
    node = Connection(config_of(broker, "edge-01"), "node")
    waiting = [b"%d" % n for n in range(120)]
    for first in range(0, len(waiting), 20):
        for payload in waiting[first : first + 20]:
            node.publish(OWN.event("m"), payload, qos=1)
        # Its answer comes after those of the others, and after the broker has saved them.
        answer(node, OWN.health)

    broker.kill()
    broker.start()
    back = consumer()
    wait_until(lambda: len(got) >= len(waiting), "all that waited")
    back.disconnect()
    back.loop_stop()

    assert got == waiting
