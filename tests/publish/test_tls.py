"""A broker that must not be trusted, or does not trust us, gets nothing; the fault says why."""

from __future__ import annotations

import itertools
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from edgeasd.common.config.keys import MqttConfig
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


class TappedBroker:
    """A mosquitto with TLS and accounts, tapped; and an outbox with one event.

    Attributes:
        broker: The broker, not started yet.
        tap: The wiretap between the publisher and the broker.
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
        """Return a correct configuration, except for the keys *changed*."""
        right = {
            "ca_file": self.authority.ca_file,
            "username": "edge",
            "password_file": self._password_file,
        }
        return MqttConfig("localhost", self.tap.port, **{**right, **changed})

    def publish(self, **config: Any) -> MqttPublisher:
        """Start to publish with a correct configuration, except for the keys *config*."""
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
def tapped(
    make_mosquitto: Callable[..., Mosquitto], outbox: Outbox, tmp_path: Path
) -> Iterator[TappedBroker]:
    """The set-up of one test."""
    tapped = TappedBroker(make_mosquitto, outbox, tmp_path)
    yield tapped
    tapped.close()


def in_clear(tap: Wiretap) -> list[bytes]:
    """The secrets that a listener on the wire can read."""
    return [secret for secret in SECRETS if secret in tap.seen]


def assert_refused(tapped: TappedBroker, publisher: MqttPublisher, words: str) -> None:
    """Check that the fault is *words*, that attempts become rarer, and that nothing is sent."""
    wait_until(lambda: len(tapped.tap.connected_s) >= N_ATTEMPTS, "several attempts")
    wait_until(lambda: publisher.fault != "not connected yet", "the fault is told")
    times_s = tapped.tap.connected_s
    waits_s = [after - before for before, after in itertools.pairwise(times_s)]

    assert words in publisher.fault
    assert not publisher.connected
    # Each wait is half to all of twice the one before: after three, at least four times the first.
    assert waits_s[2] > 0.2
    assert in_clear(tapped.tap) == []
    assert [event.payload for event in tapped.outbox.pending(10)] == [PAYLOAD]


def test_tls_with_everything_right_delivers_and_shows_nothing(tapped: TappedBroker) -> None:
    """The event arrives; a listener on the wire sees neither password nor topic nor payload."""
    tapped.start_broker()

    publisher = tapped.publish()
    wait_until(lambda: len(tapped.outbox) == 0, "delivered")

    assert publisher.fault == ""
    assert len(tapped.tap.seen) > 1000
    assert in_clear(tapped.tap) == []


def test_without_tls_the_wiretap_sees_everything(tapped: TappedBroker) -> None:
    """The tap of these tests finds what is sent in clear."""
    tapped.broker.start()

    tapped.publish(ca_file=None)
    wait_until(lambda: len(tapped.outbox) == 0, "delivered")

    assert in_clear(tapped.tap) == list(SECRETS)


@pytest.mark.parametrize("kind", KINDS)
def test_tls_takes_each_kind_of_authority_and_no_other_of_that_kind(
    tapped: TappedBroker, kind: str, tmp_path: Path
) -> None:
    """Every Python accepts the same authorities, and only the one that is named."""
    tapped.authority = Authority(tmp_path / "named", kind)
    other = Authority(tmp_path / "other", kind)
    tapped.start_broker()

    Connection(tapped.config(), "named").close(cleanly=True)
    with pytest.raises(BrokerError, match="is not accepted"):
        Connection(tapped.config(ca_file=other.ca_file), "other")


def test_tls_verifies_alike_on_every_python(tapped: TappedBroker) -> None:
    """Verification is fixed here and not left to the defaults, which change."""
    context = tls_context(tapped.config())

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN


def test_tls_of_another_authority_is_refused(tapped: TappedBroker, tmp_path: Path) -> None:
    """A certificate that an unknown authority signed gets no password."""
    tapped.start_broker()

    publisher = tapped.publish(ca_file=Authority(tmp_path / "other").ca_file)

    assert_refused(tapped, publisher, "is not accepted (")
    assert "check mqtt.ca_file" in publisher.fault


def test_tls_with_an_expired_certificate_is_refused(tapped: TappedBroker) -> None:
    """A broker with an expired certificate gets nothing."""
    tapped.start_broker(days=-1)

    publisher = tapped.publish()

    assert_refused(tapped, publisher, "is not accepted (certificate has expired)")


def test_tls_of_another_host_is_refused(tapped: TappedBroker) -> None:
    """A certificate that the right authority gave to another host is not accepted."""
    tapped.start_broker(host="elsewhere.example")

    publisher = tapped.publish()

    assert_refused(tapped, publisher, "is not accepted (Hostname mismatch")


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_tls_without_the_certificate_that_is_asked_for_is_refused(
    tapped: TappedBroker, version: str
) -> None:
    """A broker that wants a certificate refuses a node that has none."""
    tapped.start_broker("require_certificate true")

    publisher = tapped.publish(version=version)

    assert_refused(tapped, publisher, "mqtt.cert_file")


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_tls_with_a_wrong_password_is_refused(
    tapped: TappedBroker, version: str, tmp_path: Path
) -> None:
    """The broker's refusal is reported with the keys to check."""
    tapped.start_broker()
    (tmp_path / "wrong").write_text("wrong")

    publisher = tapped.publish(version=version, password_file=tmp_path / "wrong")

    assert_refused(
        tapped,
        publisher,
        "refuses the user name 'edge' or its password; check mqtt.username and mqtt.password_file",
    )


def test_event_refused_by_the_access_control_list_is_kept_until_it_is_allowed(
    tapped: TappedBroker, tmp_path: Path
) -> None:
    """With MQTT 5 a refused event stays, the fault names its topic, and it is sent once allowed."""
    acl = tmp_path / "acl"
    allowed = "user edge\ntopic write acme/edgeasd/v1/edge-03/availability\n"
    acl.write_text(allowed)
    tapped.start_broker(f"acl_file {acl}")

    publisher = tapped.publish(version="5")
    wait_until(lambda: "refuses" in publisher.fault, "the refusal is told")
    told = (publisher.fault, publisher.connected, publisher.reconnects, len(tapped.outbox))
    acl.write_text(f"{allowed}topic write {EVENT}\n")
    tapped.broker.reload()
    wait_until(lambda: len(tapped.outbox) == 0, "delivered")

    assert told == (
        f"broker at localhost:{tapped.tap.port} refuses messages on {EVENT} (Not authorized); "
        "check its access control list",
        True,
        0,
        1,
    )
    wait_until(lambda: publisher.fault == "", "the fault is over")
    assert in_clear(tapped.tap) == []


def test_retained_state_refused_by_the_access_control_list_is_sent_when_it_is_allowed(
    tapped: TappedBroker, tmp_path: Path
) -> None:
    """With MQTT 5 the latest state is sent once allowed; events go on meanwhile."""
    acl = tmp_path / "acl"
    allowed = f"user other\ntopic read acme/#\nuser edge\ntopic write {EVENT}\n"
    acl.write_text(allowed)
    tapped.start_broker(f"acl_file {acl}")
    publisher = tapped.publish(version="5")
    publisher.publish_retained(TOPICS.health, b"first")
    wait_until(lambda: "refuses messages on" in publisher.fault, "the refusal is told")
    wait_until(lambda: len(tapped.outbox) == 0, "the event is delivered")
    publisher.publish_retained(TOPICS.health, b"second")

    acl.write_text(f"{allowed}topic write acme/edgeasd/v1/edge-03/#\n")
    tapped.broker.reload()
    wait_until(lambda: publisher.fault == "", "the fault is over")
    other = Connection(tapped.config(username="other"), "other")
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
    tapped: TappedBroker, tmp_path: Path
) -> None:
    """Mosquitto drops it silently; docs/install.md says to use MQTT 5 with an access list."""
    (tmp_path / "acl").write_text("user edge\ntopic write acme/none\n")
    tapped.start_broker(f"acl_file {tmp_path / 'acl'}", "log_type all")

    publisher = tapped.publish(version="3.1.1")
    wait_until(lambda: len(tapped.outbox) == 0, "acknowledged")

    assert publisher.fault == ""
    assert "Denied PUBLISH" in (tmp_path / "mosquitto0" / "mosquitto.log").read_text()
