"""Each step to the broker has a report of its own, and the first that fails is the last."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeasd.cli.check.broker import check_broker_steps, look_at_password
from edgeasd.cli.check.report import CheckReport
from edgeasd.common.config.keys import Config, MachineConfig, MqttConfig
from edgeasd.publish.mqtt.connection import Connection
from tests.publish.brokers import Mosquitto, Subscriber, free_port
from tests.publish.certificates import Authority
from tests.publish.scripted_broker import Ignore, ScriptedBroker

pytestmark = pytest.mark.network

TOPIC = "plant/edgeasd/v1/n1/check"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeasd.cli.check.exchange.RETURN_S", 1.0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Starts brokers, and stops them in the end."""
    started: list[Mosquitto] = []

    def start(passwords: dict[str, str] | None = None, lines: Sequence[str] = ()) -> Mosquitto:
        started.append(Mosquitto(tmp_path / f"broker{len(started)}", passwords, lines))
        started[-1].start()
        return started[-1]

    yield start
    for broker in started:
        broker.stop()


def steps(port: int, **more: Any) -> list[CheckReport]:
    """The reports on a broker on the loopback interface."""
    mqtt = MqttConfig(**{"host": "127.0.0.1", "port": port, "base": "plant", **more})
    machine = MachineConfig("m", Path("m.onnx"))
    return list(check_broker_steps(Config((machine,), node="n1", mqtt=mqtt)))


def grades(reports: list[CheckReport]) -> dict[str, str]:
    """Step and grade of each report."""
    return {report.subject.removeprefix("broker: "): report.grade for report in reports}


def test_steps_to_a_good_broker_are_all_well(start: Callable[..., Mosquitto]) -> None:
    """A message of the node's own topic comes back, as large as any, and nothing is left of it."""
    broker = start()
    subscriber = Subscriber(broker.port)

    reports = steps(broker.port)
    late = Subscriber(broker.port)
    assert late.is_idle()

    assert grades(reports) == dict.fromkeys(
        ("name", "connection", "login", "node", "message"), "ok"
    )
    assert reports[-1].text.startswith(
        f"3000 bytes, the most that health takes, came back on {TOPIC} in "
    )
    sizes = [len(one) for one in subscriber.on(TOPIC)]
    assert ([size for size in sizes if size], sizes[-1]) == ([16, 3000], 0)
    assert late.messages == []
    for one in (subscriber, late):
        one.close()


def test_steps_beside_a_running_daemon_leave_it_connected(start: Callable[..., Mosquitto]) -> None:
    """The check takes a name of its own, so that the broker does not disconnect the daemon."""
    broker = start()
    daemon = Connection(MqttConfig("127.0.0.1", broker.port), "edgeasd-n1")

    steps(broker.port)

    number = daemon.publish("topic", b"still here", qos=1)
    while (number, "") not in daemon.answers():
        daemon.serve(1.0)
    daemon.close(cleanly=True)


def test_steps_with_tls_tell_until_when_the_certificate_is_valid(
    start: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """A certificate of one day works, and is warned of."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("broker", "localhost")
    broker = start(lines=[f"certfile {certificate}", f"keyfile {key}"])

    reports = steps(broker.port, host="localhost", ca_file=authority.ca_file)

    assert grades(reports)["TLS"] == "warning"
    assert reports[2].text == (
        "TLSv1.3, certificate valid for 1 days; renew it, or no alert is sent after that"
    )
    assert grades(reports)["message"] == "ok"


def test_steps_with_the_wrong_authority_end_at_tls(
    start: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """A certificate that is not trusted is no matter of name, port or login."""
    certificate, key = Authority(tmp_path / "ca").issue("broker", "localhost")
    broker = start(lines=[f"certfile {certificate}", f"keyfile {key}"])

    reports = steps(broker.port, ca_file=Authority(tmp_path / "other").ca_file)

    assert grades(reports) == {"name": "ok", "connection": "ok", "TLS": "failure"}
    assert "check mqtt.ca_file" in reports[-1].text


def test_steps_to_an_unknown_host_end_at_its_name() -> None:
    """A name that does not resolve is told as such."""
    (report,) = steps(1883, host="no-such-broker.invalid")

    assert (report.grade, report.subject) == ("failure", "broker: name")
    assert report.exit_code == 69


def test_steps_to_a_closed_port_end_at_the_connection() -> None:
    """Nobody listens there."""
    reports = steps(free_port())

    assert grades(reports) == {"name": "ok", "connection": "failure"}
    assert "connection refused" in reports[-1].text


def test_steps_with_a_wrong_password_end_at_the_login(start: Callable[..., Mosquitto]) -> None:
    """The broker is there, and does not know us."""
    reports = steps(start({"node": "right"}).port, username="node")

    assert grades(reports) == {"name": "ok", "connection": "ok", "login": "failure"}
    assert "check mqtt.username and mqtt.password_file" in reports[-1].text


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize(
    ("line", "grade", "words"),
    [
        ("retain_available false", ["warning", "warning"], "retains no messages"),
        ("max_qos 0", ["warning", "warning"], "accepts only QoS 0"),
        ("max_packet_size 2500", ["ok", "warning"], "accepts no message of 3000 bytes"),
        ("max_packet_size 900", ["ok", "failure"], "accepts no message of 1200 bytes"),
        ("message_size_limit 900", ["ok", "failure"], "accepts no message of 1200 bytes"),
        ("max_packet_size 4000", ["ok", "ok"], "3000 bytes"),
        ("message_size_limit 3000", ["ok", "ok"], "3000 bytes"),
        ("max_inflight_messages 1", ["ok", "ok"], "3000 bytes"),
    ],
)
def test_steps_before_limits_of_a_broker_tell_which(
    start: Callable[..., Mosquitto], line: str, grade: Sequence[str], words: str, version: str
) -> None:
    """What the broker does not take is told by its name, whether it says so itself or not."""
    broker = start(lines=[line])

    reports = steps(broker.port, version=version)
    (report,) = [one for one in reports if one.subject == "broker: message"]

    assert [grades(reports)[step] for step in ("login", "message")] == grade
    assert words in report.text
    assert "ACL" not in report.text


@pytest.mark.parametrize(
    ("version", "grade", "words"),
    [
        (
            "3.1.1",
            "failure",
            "raise its limit (mosquitto: max_packet_size, message_size_limit), as ",
        ),
        ("5", "warning", "raise its limit (mosquitto: max_packet_size, message_size_limit), as "),
    ],
)
def test_steps_before_a_broker_that_drops_large_health_tell_whether_the_daemon_can_know(
    start: Callable[..., Mosquitto], version: str, grade: str, words: str
) -> None:
    """Under MQTT 3.1.1 nobody would ever learn that health is lost."""
    reports = steps(start(lines=["message_size_limit 2500"]).port, version=version)

    assert reports[-1].grade == grade
    assert words in reports[-1].text


@pytest.mark.parametrize(
    ("rule", "grade", "text"),
    [
        (
            "topic write plant/edgeasd/v1/n1/#",
            "ok",
            f"{TOPIC} is accepted; user 'node' may not read it back, and need not",
        ),
        (
            "topic read #",
            "failure",
            f"broker does not let user 'node' write {TOPIC}; allow plant/edgeasd/v1/n1/# in its "
            "ACL",
        ),
    ],
)
def test_steps_before_an_acl_tell_what_it_forbids(
    start: Callable[..., Mosquitto],
    tmp_path: Path,
    rule: str,
    grade: str,
    text: str,
) -> None:
    """That the node may not read is no matter; that it may not write is told, with the rule."""
    (tmp_path / "acl").write_text(f"user node\n{rule}\n")
    (tmp_path / "password").write_text("right\n")
    broker = start({"node": "right"}, [f"acl_file {tmp_path}/acl"])

    reports = steps(broker.port, username="node", password_file=tmp_path / "password")
    (report,) = [one for one in reports if one.subject == "broker: message"]

    assert (report.subject, report.grade, report.text) == ("broker: message", grade, text)


def test_steps_before_a_refused_subscription_still_ask_whether_the_message_is_taken(
    start: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """A broker that refuses to subscribe, and to publish too, is told to refuse the latter."""
    rules = tmp_path / "dynamic-security.json"
    subprocess.run(
        ["mosquitto_ctrl", "dynsec", "init", rules, "admin", "secret"],
        check=True,
        capture_output=True,
    )
    rules.chmod(0o600)
    plugin = next(Path("/usr/lib").rglob("mosquitto_dynamic_security.so"))
    broker = start(lines=[f"plugin {plugin}", f"plugin_opt_config_file {rules}"])

    *_, report = steps(broker.port)

    assert report.grade == "failure"
    assert report.text.startswith(f"broker does not let anonymous users write {TOPIC}")


def test_steps_to_what_greets_and_passes_nothing_on_warn() -> None:
    """A broker that says nothing at all of the message leaves a doubt."""
    broker = ScriptedBroker(lambda _message: Ignore())

    reports = steps(broker.port)
    broker.close()

    assert grades(reports)["message"] == "warning"
    assert reports[-1].text == (
        f"{TOPIC} did not come back; see in the broker's log whether its ACL denies it"
    )


@pytest.mark.parametrize(
    ("host", "mode", "has_tls", "doubts"),
    [
        ("127.0.0.1", 0o600, False, []),
        ("::1", 0o400, False, []),
        ("192.0.2.1", 0o600, True, []),
        ("192.0.2.1", 0o600, False, ["in clear"]),
        ("::ffff:192.0.2.1", 0o600, False, ["in clear"]),
        ("127.0.0.1", 0o640, False, ["others than its owner"]),
        ("127.0.0.1", 0o602, False, ["others than its owner"]),
        ("192.0.2.1", 0o644, False, ["others than its owner", "in clear"]),
    ],
)
def test_password_that_others_may_learn_is_doubted(
    tmp_path: Path, host: str, mode: int, doubts: list[str], *, has_tls: bool
) -> None:
    """In a file that others may read, or on a network; each with what to do."""
    password_file = tmp_path / "password"
    password_file.write_text("secret\n")
    password_file.chmod(mode)
    ca_file = tmp_path / "ca.pem" if has_tls else None
    mqtt = MqttConfig(host, username="node", password_file=password_file, ca_file=ca_file)

    result = look_at_password(mqtt)

    assert result.doubtful == bool(doubts)
    assert [text for text in ("others than its owner", "in clear") if text in result.text] == doubts


def test_steps_with_a_key_that_others_may_read_doubt_it(tmp_path: Path) -> None:
    """A certificate's key is a secret as well."""
    (tmp_path / "node.key").touch(mode=0o644)
    mqtt = MqttConfig(
        ca_file=tmp_path / "ca", cert_file=tmp_path / "c", key_file=tmp_path / "node.key"
    )

    result = look_at_password(mqtt)

    assert result.doubtful
    assert (
        result.text
        == f"others than its owner can read {tmp_path}/node.key; run: chmod 600 {tmp_path}/node.key"
    )
