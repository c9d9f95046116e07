"""Alerts arrive whatever happens to the broker, to the connection and to the process."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from edgeasd.common.config.keys import MqttConfig
from edgeasd.common.errors import ConfigError
from edgeasd.publish.delivery.delivery import MAX_IN_FLIGHT
from edgeasd.publish.delivery.publisher import MqttPublisher, Timing
from edgeasd.publish.outbox.event_file import QueuedEvent
from edgeasd.publish.outbox.outbox import Outbox
from edgeasd.publish.topics import Topics
from tests.publish.brokers import Mosquitto, Subscriber, free_port, wait_until
from tests.publish.scripted_broker import Answer, Ignore, Published, ScriptedBroker, take_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.network

TOPICS = Topics("acme/plant1", "edge-03")
EVENTS = TOPICS.event("press07")
STATE = TOPICS.state("press07")
IMPATIENT = Timing(reconnect_min_s=0.05, reconnect_max_s=0.2, acknowledge_s=60.0, stop_s=2.0)


@pytest.fixture
def make_publisher(outbox: Outbox) -> Iterator[Callable[..., MqttPublisher]]:
    """Makes publishers, not started, and stops them in the end."""
    made: list[MqttPublisher] = []

    def make(port: int, timing: Timing = IMPATIENT, **config: Any) -> MqttPublisher:
        mqtt = MqttConfig("127.0.0.1", port, **config)
        made.append(MqttPublisher(mqtt, TOPICS, outbox, "edgeasd-edge-03", timing))
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop()


def put(outbox: Outbox, *numbers: int) -> None:
    """Put events whose id and payload are their number."""
    for n in numbers:
        outbox.put(str(n), EVENTS, str(n).encode())


def payloads(*numbers: int) -> list[bytes]:
    """The payloads of those events."""
    return [str(n).encode() for n in numbers]


def ignore_all(_message: Published) -> Answer:
    """Acknowledge nothing."""
    return Ignore()


def connect(publisher: MqttPublisher) -> None:
    """Start, and wait for the broker."""
    publisher.start()
    wait_until(lambda: publisher.connected, "connected")


def test_publisher_connected_says_online_and_stopped_says_offline(
    mosquitto: Mosquitto,
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
) -> None:
    """``online`` and ``offline`` are retained; each comes once."""
    subscriber = subscribe(mosquitto.port)
    publisher = make_publisher(mosquitto.port)

    connect(publisher)
    subscriber.wait_for(TOPICS.availability, b"online")
    born = subscribe(mosquitto.port).wait_for(TOPICS.availability, b"online")
    publisher.stop()
    subscriber.wait_for(TOPICS.availability, b"offline")
    gone = subscribe(mosquitto.port).wait_for(TOPICS.availability, b"offline")

    assert subscriber.on(TOPICS.availability) == [b"online", b"offline"]
    assert born.retain
    assert gone.retain
    assert not publisher.is_alive


def test_publisher_by_mqtt_5_keeps_to_what_the_broker_takes_at_once(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
    outbox: Outbox,
) -> None:
    """States and events together never exceed the receive maximum, and all arrive in order."""
    broker = make_mosquitto()
    broker.add_lines("max_inflight_messages 3")
    broker.start()
    subscriber = subscribe(broker.port)
    publisher = make_publisher(broker.port, version="5")
    machines = [f"m{n}" for n in range(30)]
    put(outbox, *range(50))
    for machine in machines:
        publisher.publish_retained(TOPICS.state(machine), b"ok")

    publisher.start()
    wait_until(lambda: len(outbox) == 0, "the outbox is empty")
    subscriber.wait_for(EVENTS, b"49")

    assert subscriber.on(EVENTS) == payloads(*range(50))
    for machine in machines:
        subscriber.wait_for(TOPICS.state(machine), b"ok")
    assert (publisher.reconnects, publisher.fault) == (0, "")


def test_publisher_tells_whether_it_lives_and_is_connected(
    mosquitto: Mosquitto, make_publisher: Callable[..., MqttPublisher]
) -> None:
    """Before the start, while connected and after the stop."""
    publisher = make_publisher(mosquitto.port)

    def told() -> tuple[bool, bool, int, str]:
        return publisher.is_alive, publisher.connected, publisher.reconnects, publisher.fault

    before = told()
    connect(publisher)
    during = told()
    publisher.stop()

    assert before == (False, False, 0, "not connected yet")
    assert during == (True, True, 0, "")
    assert told()[:2] == (False, False)


def test_publisher_of_a_file_that_cannot_be_read_raises(outbox: Outbox, tmp_path: Path) -> None:
    """A missing password file is an error of the configuration, raised before the start."""
    config = MqttConfig(username="edge", password_file=tmp_path / "missing")

    with pytest.raises(ConfigError, match="cannot be read"):
        MqttPublisher(config, TOPICS, outbox, "edgeasd-edge-03")


def test_publisher_with_a_broker_absent_at_the_start_delivers_when_it_comes(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
    outbox: Outbox,
) -> None:
    """Events put before the first connection come in order, once each, and leave the outbox."""
    broker = make_mosquitto()
    broker.start()
    subscribe(broker.port, client_id="historian").close()
    broker.save_sessions()
    broker.kill()
    publisher = make_publisher(broker.port)
    put(outbox, *range(50))

    publisher.start()
    wait_until(lambda: "connection refused" in publisher.fault, "the fault is told")
    put(outbox, *range(50, 60))
    broker.start()
    wait_until(lambda: len(outbox) == 0, "the outbox is empty")

    subscriber = subscribe(broker.port, client_id="historian")
    subscriber.wait_for(EVENTS, b"59")
    assert subscriber.on(EVENTS) == payloads(*range(60))
    assert (publisher.fault, publisher.reconnects) == ("", 0)


def test_publisher_whose_broker_is_killed_again_and_again_loses_nothing(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
    outbox: Outbox,
) -> None:
    """Each event arrives, in order, and no more come twice than were in flight."""
    broker = make_mosquitto()
    broker.start()
    subscriber = subscribe(broker.port, client_id="historian")
    broker.save_sessions()
    publisher = make_publisher(broker.port)
    connect(publisher)
    n_kills, n_put = 4, 0
    is_over = threading.Event()

    def publish() -> None:
        nonlocal n_put
        while not is_over.wait(0.002):  # events come over time, so that each kill meets some
            put(outbox, n_put)
            publisher.notify()
            n_put += 1

    writer = threading.Thread(target=publish)
    writer.start()
    for kill in range(n_kills):
        # An event put from now on arrives after all that the broker may have in its memory.
        wait_until(lambda: publisher.reconnects == kill, "connected")  # noqa: B023  # at once
        wait_until(lambda: subscriber.n_connections > kill, "subscribed")  # noqa: B023  # at once
        subscriber.wait_for(EVENTS, str(n_put + 20).encode())
        broker.hang()
        # Killed with an answer unread it resets the connection, and what the subscriber has not
        # read by then is lost: passed on, and not by the publisher's fault.
        wait_until(subscriber.is_idle, "the subscriber has read all that was passed on")
        broker.kill()
        broker.start()
    wait_until(lambda: publisher.reconnects == n_kills, "connected again")
    is_over.set()
    writer.join()
    wait_until(lambda: len(outbox) == 0, "the outbox is empty")

    subscriber.wait_for(EVENTS, str(n_put - 1).encode())
    came = subscriber.on(EVENTS)
    assert list(dict.fromkeys(came)) == payloads(*range(n_put))
    assert len(came) - n_put <= n_kills * MAX_IN_FLIGHT


def test_publisher_after_a_broker_restart_says_the_retained_state_again(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
) -> None:
    """A broker that forgot everything gets the latest state, and that the node is online."""
    broker = make_mosquitto(lines=["persistence false"])
    broker.start()
    publisher = make_publisher(broker.port)
    connect(publisher)
    publisher.publish_retained(STATE, b"ok")
    publisher.publish_retained(TOPICS.health, b"well")
    subscribe(broker.port).wait_for(TOPICS.health, b"well")

    broker.kill()
    wait_until(lambda: not publisher.connected, "the loss is noticed")
    publisher.publish_retained(STATE, b"stale")
    publisher.publish_retained(STATE, b"alarm")
    broker.start()

    subscriber = subscribe(broker.port)
    for topic, payload in (
        (TOPICS.availability, b"online"),
        (TOPICS.health, b"well"),
        (STATE, b"alarm"),
    ):
        subscriber.wait_for(topic, payload)
    later = subscribe(broker.port)
    assert later.wait_for(STATE, b"alarm").retain
    assert later.wait_for(TOPICS.availability, b"online").retain
    assert b"stale" not in subscriber.on(STATE)


def test_publisher_transient_offline_is_dropped(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
) -> None:
    """A score put while the broker was away is never sent; a later one is, at QoS 0."""
    broker = make_mosquitto()
    publisher = make_publisher(broker.port)
    publisher.start()
    publisher.publish_transient(TOPICS.score("press07"), b"old")
    broker.start()
    wait_until(lambda: publisher.connected, "connected")
    subscriber = subscribe(broker.port)

    publisher.publish_transient(TOPICS.score("press07"), b"new")

    assert subscriber.wait_for(TOPICS.score("press07"), b"new").qos == 0
    assert subscriber.on(TOPICS.score("press07")) == [b"new"]


def test_publisher_whose_broker_hangs_holds_nobody_up_and_delivers_later(
    mosquitto: Mosquitto,
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
    outbox: Outbox,
) -> None:
    """Messages to a silent broker take no time and no memory; events arrive when it answers."""
    subscriber = subscribe(mosquitto.port, EVENTS)
    state = subscribe(mosquitto.port, STATE)
    publisher = make_publisher(mosquitto.port, keepalive_s=60)
    connect(publisher)
    large = bytes(500_000)
    mosquitto.hang()

    calls_s: list[float] = []
    hung_s = time.monotonic()
    while (before_s := time.monotonic()) < hung_s + 1.0 or len(calls_s) <= 300:
        publisher.publish_transient(TOPICS.score("press07"), large)
        publisher.publish_retained(STATE, b"%d" % len(calls_s) + large)
        publisher.notify()
        calls_s.append(time.monotonic() - before_s)
    put(outbox, *range(30))
    publisher.notify()
    mosquitto.resume()

    wait_until(lambda: len(outbox) == 0, "the outbox is empty")
    subscriber.wait_for(EVENTS, b"29")
    state.wait_for(STATE, b"%d" % (len(calls_s) - 1) + large)
    assert max(calls_s) < 5.0
    # Those that the kernel's buffers took, and the latest; not the hundreds that were said.
    assert len(state.messages) < 50
    assert subscriber.on(EVENTS) == payloads(*range(30))
    assert publisher.reconnects == 0


def test_publisher_whose_broker_hangs_for_long_notices(
    mosquitto: Mosquitto, make_publisher: Callable[..., MqttPublisher]
) -> None:
    """After about one and a half keepalives the connection counts as lost."""
    publisher = make_publisher(mosquitto.port, keepalive_s=1)
    connect(publisher)

    mosquitto.hang()
    wait_until(lambda: not publisher.connected, "the loss is noticed", deadline_s=30.0)
    fault = publisher.fault
    mosquitto.resume()
    wait_until(lambda: publisher.connected, "connected again")

    assert fault == f"connection to the broker at 127.0.0.1:{mosquitto.port} was lost"


def test_publisher_with_a_wrong_password_keeps_trying_until_it_is_right(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The refusal is logged once; the corrected password file is read without a restart."""
    caplog.set_level(logging.INFO)
    broker = make_mosquitto({"edge": "right"})
    broker.start()
    password_file = tmp_path / "password"
    password_file.write_text("wrong")
    publisher = make_publisher(broker.port, username="edge", password_file=password_file)
    put(outbox, 1)
    log = tmp_path / "mosquitto0" / "mosquitto.log"

    publisher.start()
    wait_until(lambda: log.read_text().count("not authorised") >= 3, "three attempts")
    refused = (publisher.connected, publisher.fault)
    password_file.write_text("right\n")

    wait_until(lambda: publisher.connected, "connected")
    wait_until(lambda: len(outbox) == 0, "the outbox is empty")
    assert refused == (
        False,
        (
            f"broker at 127.0.0.1:{broker.port} refuses the user name 'edge' or its password; "
            "check mqtt.username and mqtt.password_file"
        ),
    )
    assert [record.message for record in caplog.records] == [
        refused[1],
        f"connected to 127.0.0.1:{broker.port}",
    ]


def test_publisher_refused_is_accepted_once_the_broker_knows_it(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    tmp_path: Path,
) -> None:
    """Correcting the account at the broker is enough too."""
    broker = make_mosquitto({"edge": "other"})
    broker.start()
    (tmp_path / "password").write_text("right")
    publisher = make_publisher(broker.port, username="edge", password_file=tmp_path / "password")
    publisher.start()
    wait_until(lambda: "refuses the user name" in publisher.fault, "refused")

    broker.set_passwords({"edge": "right"})

    wait_until(lambda: publisher.connected, "connected")


def test_publisher_refused_on_one_topic_delivers_on_the_others(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
    outbox: Outbox,
    tmp_path: Path,
) -> None:
    """However many wait on a forbidden topic, no other waits; once it is allowed, all come."""
    acl = tmp_path / "acl"
    acl.write_text(f"topic readwrite #\ntopic deny {EVENTS}\n")
    broker = make_mosquitto(lines=[f"acl_file {acl}"])
    broker.start()
    subscriber = subscribe(broker.port)
    publisher = make_publisher(broker.port, version="5")
    other = TOPICS.event("fan")
    numbers = range(2 * MAX_IN_FLIGHT)
    put(outbox, *numbers)
    outbox.put("later", other, b"later")

    publisher.start()
    subscriber.wait_for(other, b"later")
    wait_until(lambda: "Not authorized" in publisher.fault, "the refusal is told")
    acl.write_text("topic readwrite #\n")
    broker.reload()
    wait_until(lambda: len(outbox) == 0, "the outbox is empty")
    subscriber.wait_for(EVENTS, b"%d" % numbers[-1])

    assert subscriber.on(EVENTS) == payloads(*numbers)
    assert publisher.fault == ""


def test_publisher_password_file_gone_at_run_time_is_a_fault(
    make_mosquitto: Callable[..., Mosquitto],
    make_publisher: Callable[..., MqttPublisher],
    tmp_path: Path,
) -> None:
    """A file that vanishes later does not end the thread; it is reported, and read when back."""
    broker = make_mosquitto({"edge": "right"})
    broker.start()
    password_file = tmp_path / "password"
    password_file.write_text("right")
    publisher = make_publisher(broker.port, username="edge", password_file=password_file)
    password_file.unlink()

    publisher.start()
    wait_until(lambda: "mqtt.password_file=" in publisher.fault, "the fault is told")
    password_file.write_text("right")

    wait_until(lambda: publisher.connected, "connected")


def test_publisher_has_no_more_events_in_flight_than_its_limit(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
) -> None:
    """A broker that acknowledges nothing gets one event of each machine, of twenty at most."""
    broker = make_broker(ignore_all)
    publisher = make_publisher(broker.port, Timing(stop_s=0.1))
    machines = range(2 * MAX_IN_FLIGHT)
    for n in machines:
        for kind in (b"start", b"end"):
            outbox.put(f"{n}-{kind.decode()}", TOPICS.event(f"m{n}"), b"%d %s" % (n, kind))

    connect(publisher)
    wait_until(lambda: len(broker.published) >= 1 + MAX_IN_FLIGHT, "the limit is reached")
    publisher.publish_transient("last", b"last")
    wait_until(lambda: broker.published[-1].payload == b"last", "what follows arrives")

    starts = [b"%d start" % n for n in machines[:MAX_IN_FLIGHT]]
    assert [one.payload for one in broker.published] == [*starts, b"online", b"last"]
    assert len(outbox) == 2 * len(machines)


def test_publisher_whose_broker_acknowledges_nothing_connects_anew(
    make_broker: Callable[..., ScriptedBroker],
    make_publisher: Callable[..., MqttPublisher],
    outbox: Outbox,
) -> None:
    """A broker that answers only pings is given up in the end; then all is sent again."""
    broker = make_broker(ignore_all)
    publisher = make_publisher(broker.port, Timing(0.05, 0.2, acknowledge_s=0.3, stop_s=0.1))
    put(outbox, 1, 2)

    publisher.start()
    wait_until(lambda: broker.n_connections >= 2, "connected again")
    fault = publisher.fault
    broker.answer = take_all

    wait_until(lambda: len(outbox) == 0, "the outbox is empty")
    wait_until(lambda: publisher.fault == "", "the fault is over")
    assert fault == f"broker at 127.0.0.1:{broker.port} acknowledges nothing"
    assert {one.payload for one in broker.published[:2]} == {b"1", b"online"}
    assert broker.on(EVENTS) == payloads(1, 2)


def test_publisher_survives_an_error_of_its_own(
    mosquitto: Mosquitto,
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
    outbox: Outbox,
    *,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bug in the publishing thread is logged with its traceback, and the thread goes on."""
    subscriber = subscribe(mosquitto.port, EVENTS)
    heads, n_calls = outbox.heads, 0

    def heads_with_a_bug() -> list[QueuedEvent]:
        nonlocal n_calls
        n_calls += 1
        if n_calls <= 2:
            raise RuntimeError("a bug")
        return heads()

    monkeypatch.setattr(outbox, "heads", heads_with_a_bug)
    put(outbox, 1)
    publisher = make_publisher(mosquitto.port)

    publisher.start()
    subscriber.wait_for(EVENTS, b"1")

    assert publisher.is_alive
    assert "RuntimeError: a bug" in caplog.text


def test_publisher_without_a_broker_stops_at_once(
    make_publisher: Callable[..., MqttPublisher],
) -> None:
    """Stopping does not wait for the next attempt to connect."""
    publisher = make_publisher(free_port(), Timing(reconnect_min_s=60.0))
    publisher.start()
    wait_until(lambda: "refused" in publisher.fault, "refused")

    started_s = time.monotonic()
    publisher.stop()

    assert not publisher.is_alive
    assert time.monotonic() - started_s < 30.0


def test_publisher_whose_broker_hangs_stops_in_time_and_leaves_the_will(
    mosquitto: Mosquitto,
    make_publisher: Callable[..., MqttPublisher],
    subscribe: Callable[..., Subscriber],
) -> None:
    """If the last ``offline`` is not acknowledged, the will takes its place."""
    subscriber = subscribe(mosquitto.port, TOPICS.availability)
    publisher = make_publisher(mosquitto.port, Timing(stop_s=0.2))
    connect(publisher)
    subscriber.wait_for(TOPICS.availability, b"online")
    mosquitto.hang()

    started_s = time.monotonic()
    publisher.stop()
    elapsed_s = time.monotonic() - started_s
    mosquitto.resume()

    subscriber.wait_for(TOPICS.availability, b"offline")
    assert not publisher.is_alive
    assert elapsed_s < 2.0  # as long as it would wait by default


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts publishers in processes of their own, and kills them in the end."""
    started: list[subprocess.Popen[str]] = []

    def spawn_one(port: int, path: Path, n_events: int = 0) -> subprocess.Popen[str]:
        arguments = [
            sys.executable,
            "-m",
            "tests.publish.publisher_process",
            *(str(port), str(path), str(n_events)),
        ]
        started.append(
            subprocess.Popen(
                arguments,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert stdout_of(started[-1]).readline() == "connected\n"
        return started[-1]

    yield spawn_one
    for process in started:
        process.kill()
        process.communicate()


def stdout_of(process: subprocess.Popen[str]) -> IO[str]:
    """Its output, which is a pipe."""
    assert process.stdout is not None
    return process.stdout


def test_publisher_process_killed_leaves_offline_to_the_will(
    mosquitto: Mosquitto,
    subscribe: Callable[..., Subscriber],
    spawn: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    """After SIGKILL every subscriber learns that the node is gone, also one that comes later."""
    subscriber = subscribe(mosquitto.port)
    process = spawn(mosquitto.port, tmp_path / "other.db")
    availability = Topics("", "edge-03").availability
    subscriber.wait_for(availability, b"online")

    process.kill()

    subscriber.wait_for(availability, b"offline")
    assert subscribe(mosquitto.port).wait_for(availability, b"offline").retain


def test_publisher_process_killed_before_the_acknowledgement_sends_again_under_the_same_ids(
    mosquitto: Mosquitto,
    subscribe: Callable[..., Subscriber],
    spawn: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    """Events that a killed process put are sent by the next one, with the same ids, in order."""
    subscriber = subscribe(mosquitto.port, Topics("", "edge-03").event("press07"))
    path = tmp_path / "killed.db"
    process = spawn(mosquitto.port, path, 5)
    mosquitto.hang()
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    ids = [stdout_of(process).readline().strip() for _ in range(5)]

    process.kill()
    process.wait()
    mosquitto.resume()
    spawn(mosquitto.port, path)
    topic = Topics("", "edge-03").event("press07")
    wait_until(lambda: len(set(subscriber.on(topic))) == 5, "all events arrive")
    left = Outbox(path)
    wait_until(lambda: len(left) == 0, "the outbox is empty")
    left.close()

    came = [payload.decode() for payload in subscriber.on(topic)]
    assert list(dict.fromkeys(came)) == ids
    assert came[-5:] == ids
