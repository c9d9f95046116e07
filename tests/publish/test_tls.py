"""A broker that must not be trusted, or does not trust us, gets nothing and is told why."""

from __future__ import annotations

import itertools
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from edgeasd.common.config import MqttConfig
from edgeasd.common.errors import BrokerError
from edgeasd.publish.delivery.publisher import MqttPublisher, Timing
from edgeasd.publish.mqtt.connection import Connection
from edgeasd.publish.mqtt.credentials import tls_context
from edgeasd.publish.topics import Topics
from tests.publish.brokers import Mosquitto, wait_until
from tests.publish.certificates import KINDS, Authority
from tests.publish.wiretap import Wiretap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgeasd.publish.outbox.outbox import Outbox

pytestmark = pytest.mark.network

TOPICS = Topics("acme", "edge-03")
EVENT = TOPICS.event("press07")
PAYLOAD = b"the machine does not sound like itself"
PASSWORD = "a secret of ours"
SECRETS = (PASSWORD.encode(), PAYLOAD, EVENT.encode(), b"acme/edgeasd", b"edgeasd-edge-03")
BACK_OFF = Timing(reconnect_min_s=0.1, reconnect_max_s=60.0)
N_ATTEMPTS = 4


class Plant:
    """A mosquitto with TLS and accounts, tapped; and an outbox with one event.

    Attributes:
        broker: Not started yet.
        tap: Between the publisher and the broker.
    """

    def __init__(
        self, make_mosquitto: Callable[..., Mosquitto], outbox: Outbox, tmp_path: Path
    ) -> None:
        self.authority = Authority(tmp_path / "authority")
        self.broker = make_mosquitto({"edge": PASSWORD, "other": PASSWORD})
        self.tap = Wiretap(self.broker.port)
        self.outbox = outbox
        self._password_file = tmp_path / "password"
        self._password_file.write_text(PASSWORD)
        self._publisher: MqttPublisher | None = None
        outbox.put("id", EVENT, PAYLOAD)

    def start_broker(self, *lines: str, host: str = "localhost", days: int = 1) -> None:
        """Start the broker with a certificate for *host*, and *lines* of configuration."""
        certificate, key = self.authority.issue("broker", host, days)
        self.broker.add_lines(
            f"cafile {self.authority.ca_file}",
            f"certfile {certificate}",
            f"keyfile {key}",
            *lines,
        )
        self.broker.start()

    def config(self, **changed: Any) -> MqttConfig:
        """Return a configuration that is right but for what is *changed*."""
        right = {
            "ca_file": self.authority.ca_file,
            "username": "edge",
            "password_file": self._password_file,
        }
        return MqttConfig("localhost", self.tap.port, **{**right, **changed})

    def publish(self, **config: Any) -> MqttPublisher:
        """Start to publish by a configuration that is right but for *config*."""
        mqtt = self.config(**config)
        self._publisher = MqttPublisher(mqtt, TOPICS, self.outbox, "edgeasd-edge-03", BACK_OFF)
        self._publisher.start()
        return self._publisher

    def close(self) -> None:
        """Stop publishing and tapping."""
        if self._publisher is not None:
            self._publisher.stop()
        self.tap.close()


@pytest.fixture
def plant(
    make_mosquitto: Callable[..., Mosquitto], outbox: Outbox, tmp_path: Path
) -> Iterator[Plant]:
    """A plant of one test."""
    plant = Plant(make_mosquitto, outbox, tmp_path)
    yield plant
    plant.close()


def in_clear(tap: Wiretap) -> list[bytes]:
    """What a listener on the wire can read of what is nobody's business."""
    return [secret for secret in SECRETS if secret in tap.seen]


def assert_refused(plant: Plant, publisher: MqttPublisher, words: str) -> None:
    """Check that the publisher says *words*, tries again less and less often, and sends nothing."""
    wait_until(lambda: len(plant.tap.connected_s) >= N_ATTEMPTS, "several attempts")
    wait_until(lambda: publisher.fault != "not connected yet", "the fault is told")
    times_s = plant.tap.connected_s
    waits_s = [after - before for before, after in itertools.pairwise(times_s)]

    assert words in publisher.fault
    assert not publisher.connected
    # Each wait is half to all of twice the one before: after three, at least four times the first.
    assert waits_s[2] > 0.2
    assert in_clear(plant.tap) == []
    assert [event.payload for event in plant.outbox.pending(10)] == [PAYLOAD]


def test_tls_with_everything_right_delivers_and_shows_nothing(plant: Plant) -> None:
    """The event arrives; who listens on the wire sees neither password nor topic nor payload."""
    plant.start_broker()

    publisher = plant.publish()
    wait_until(lambda: len(plant.outbox) == 0, "delivered")

    assert publisher.fault == ""
    assert len(plant.tap.seen) > 1000
    assert in_clear(plant.tap) == []


def test_without_tls_the_wiretap_sees_everything(plant: Plant) -> None:
    """The tap of these tests would find what is sent in clear."""
    plant.broker.start()

    plant.publish(ca_file=None)
    wait_until(lambda: len(plant.outbox) == 0, "delivered")

    assert in_clear(plant.tap) == list(SECRETS)


@pytest.mark.parametrize("kind", KINDS)
def test_tls_takes_each_kind_of_authority_and_no_other_of_that_kind(
    plant: Plant, kind: str, tmp_path: Path
) -> None:
    """Every Python takes the authorities that the others take, and only the one that is named."""
    plant.authority = Authority(tmp_path / "named", kind)
    other = Authority(tmp_path / "other", kind)
    plant.start_broker()

    Connection(plant.config(), "named").close(cleanly=True)
    with pytest.raises(BrokerError, match="is not accepted"):
        Connection(plant.config(ca_file=other.ca_file), "other")


def test_tls_verifies_alike_on_every_python(plant: Plant) -> None:
    """What is verified is fixed here and not left to the defaults, which change."""
    context = tls_context(plant.config())

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN


def test_tls_of_another_authority_is_refused(plant: Plant, tmp_path: Path) -> None:
    """A certificate that an unknown authority signed gets no password."""
    plant.start_broker()

    publisher = plant.publish(ca_file=Authority(tmp_path / "other").ca_file)

    assert_refused(plant, publisher, "is not accepted (")
    assert "check mqtt.ca_file" in publisher.fault


def test_tls_with_an_expired_certificate_is_refused(plant: Plant) -> None:
    """A broker whose certificate ran out is not talked to."""
    plant.start_broker(days=-1)

    publisher = plant.publish()

    assert_refused(plant, publisher, "is not accepted (certificate has expired)")


def test_tls_of_another_host_is_refused(plant: Plant) -> None:
    """A certificate that the right authority gave to another host is not accepted."""
    plant.start_broker(host="elsewhere.example")

    publisher = plant.publish()

    assert_refused(plant, publisher, "is not accepted (Hostname mismatch")


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_tls_without_the_certificate_that_is_asked_for_is_refused(
    plant: Plant, version: str
) -> None:
    """A broker that wants a certificate refuses a node that has none."""
    plant.start_broker("require_certificate true")

    publisher = plant.publish(version=version)

    assert_refused(plant, publisher, "mqtt.cert_file")


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_tls_with_a_wrong_password_is_refused(plant: Plant, version: str, tmp_path: Path) -> None:
    """The broker's refusal is told with the keys to look at."""
    plant.start_broker()
    (tmp_path / "wrong").write_text("wrong")

    publisher = plant.publish(version=version, password_file=tmp_path / "wrong")

    assert_refused(
        plant,
        publisher,
        "refuses the user name 'edge' or its password; check mqtt.username and mqtt.password_file",
    )


def test_event_refused_by_the_access_control_list_is_kept_until_it_is_allowed(
    plant: Plant, tmp_path: Path
) -> None:
    """Under MQTT 5 a refused event stays, the fault names the topic, and it is sent when it may."""
    acl = tmp_path / "acl"
    allowed = "user edge\ntopic write acme/edgeasd/v1/edge-03/availability\n"
    acl.write_text(allowed)
    plant.start_broker(f"acl_file {acl}")

    publisher = plant.publish(version="5")
    wait_until(lambda: "refuses" in publisher.fault, "the refusal is told")
    told = (publisher.fault, publisher.connected, publisher.reconnects, len(plant.outbox))
    acl.write_text(f"{allowed}topic write {EVENT}\n")
    plant.broker.reload()
    wait_until(lambda: len(plant.outbox) == 0, "delivered")

    assert told == (
        f"broker at localhost:{plant.tap.port} refuses messages on {EVENT} (Not authorized); "
        "check its access control list",
        True,
        0,
        1,
    )
    wait_until(lambda: publisher.fault == "", "the fault is over")
    assert in_clear(plant.tap) == []


def test_retained_state_refused_by_the_access_control_list_is_sent_when_it_is_allowed(
    plant: Plant, tmp_path: Path
) -> None:
    """Under MQTT 5 the latest state is said as soon as it may; events go on meanwhile."""
    acl = tmp_path / "acl"
    allowed = f"user other\ntopic read acme/#\nuser edge\ntopic write {EVENT}\n"
    acl.write_text(allowed)
    plant.start_broker(f"acl_file {acl}")
    publisher = plant.publish(version="5")
    publisher.publish_retained(TOPICS.health, b"first")
    wait_until(lambda: "refuses messages on" in publisher.fault, "the refusal is told")
    wait_until(lambda: len(plant.outbox) == 0, "the event is delivered")
    publisher.publish_retained(TOPICS.health, b"second")

    acl.write_text(f"{allowed}topic write acme/edgeasd/v1/edge-03/#\n")
    plant.broker.reload()
    wait_until(lambda: publisher.fault == "", "the fault is over")
    other = Connection(plant.config(username="other"), "other")
    other.subscribe("acme/#", qos=1)
    got: list[tuple[str, bytes]] = []

    def has_all() -> bool:
        other.serve(0.1)
        got.extend((one.topic, one.payload) for one in other.received())
        return len(got) >= 2

    wait_until(has_all, "what is retained")
    other.close(cleanly=True)
    assert sorted(got) == [(TOPICS.availability, b"online"), (TOPICS.health, b"second")]
    assert publisher.reconnects == 0


def test_event_refused_under_3_1_1_is_acknowledged_all_the_same(
    plant: Plant, tmp_path: Path
) -> None:
    """Mosquitto drops it without a word: docs/install.md says to use MQTT 5 with an access list."""
    (tmp_path / "acl").write_text("user edge\ntopic write acme/none\n")
    plant.start_broker(f"acl_file {tmp_path / 'acl'}", "log_type all")

    publisher = plant.publish(version="3.1.1")
    wait_until(lambda: len(plant.outbox) == 0, "acknowledged")

    assert publisher.fault == ""
    assert "Denied PUBLISH" in (tmp_path / "mosquitto0" / "mosquitto.log").read_text()
