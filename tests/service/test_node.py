"""What a node says over MQTT, without the daemon around it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgeasd.common.config.keys import Config, MqttConfig
from edgeasd.publish.mqtt.connection import Connection
from edgeasd.publish.topics import Topics
from edgeasd.service.node import Node, put_event
from tests.installation import NODE
from tests.publish.brokers import Mosquitto, Subscriber, free_port, wait_until

pytestmark = pytest.mark.network


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Config:
    """A node of that broker."""
    mqtt = MqttConfig(host="127.0.0.1", port=broker.port)
    return Config((), node="n1", state_dir=tmp_path / "state", mqtt=mqtt)


@pytest.fixture
def node(config: Config) -> Iterator[Node]:
    """One that does not speak yet."""
    config.state_dir.mkdir()
    node = Node(config)
    yield node
    node.publisher.stop()
    node.outbox.close()


@pytest.fixture
def runs(config: Config, subscriber: Subscriber) -> Iterator[Callable[..., Node]]:
    """Starts runs of a daemon, one after the other, as the daemon does; the last is ended."""
    del subscriber  # with it the broker runs
    config.state_dir.mkdir(exist_ok=True)
    running: list[Node] = []

    def run(machines: Sequence[str], config: Config = config) -> Node:
        end()
        node = Node(config)
        running.append(node)
        node.publisher.start()
        node.forget_all_but(machines)
        node.remember(machines)
        for machine in machines:
            node.publisher.publish_retained(node.topics.state(machine), b"{}")
        tell_health(node)
        return node

    def end() -> None:
        for node in running:
            node.stop()
            node.outbox.close()
        running.clear()

    run.end = end  # type: ignore[attr-defined]
    yield run
    end()


def tell(node: Node, machine: str, payload: dict[str, object]) -> None:
    """Put an event of *machine* into the outbox, and have it sent."""
    put_event(node.outbox, node.topics.event(machine), payload)
    node.wake()


def tell_health(node: Node) -> None:
    """Tell a health message that has what others look at."""
    health = {"boot_id": node.boot_id, "uptime_s": time.monotonic()}
    node.publisher.publish_retained(node.topics.health, json.dumps(health).encode())


def retained_at(broker: Mosquitto) -> set[str]:
    """Return the topics on which the broker retains something."""
    subscriber = Subscriber(broker.port)
    wait_until(subscriber.is_idle, "all that is retained")
    subscriber.close()
    return {message.topic for message in subscriber.messages if message.retain}


def all_of(topics: Topics, *machines: str) -> set[str]:
    """Return the topics on which a node retains something."""
    return {topics.availability, topics.health, *map(topics.state, machines)}


def test_node_whose_notes_are_damaged_sends_its_alerts(
    subscriber: Subscriber, config: Config, node: Node
) -> None:
    """What is no topic any more is passed over; the machines that can be read are cleared."""
    noted = [f"retained {NODE}/{name}/state 127.0.0.1" for name in ("m#7", "m+8\0", "m9")]
    node.publisher.stop()
    node.outbox.close()
    (config.state_dir / "retained.txt").write_text("\n".join(noted) + "\n\xff\xfe run")
    node = Node(config)
    node.publisher.start()

    node.forget_all_but(["m1"])
    tell(node, "m1", {"id": "n1-0"})

    wait_until(lambda: subscriber.on(f"{NODE}/m1/event"), "the alert")
    wait_until(lambda: subscriber.on(f"{NODE}/m9/state"), "the state")
    assert subscriber.on(f"{NODE}/m9/state") == [b""]
    node.stop()
    node.outbox.close()


def test_node_of_another_base_ends_what_was_raised_on_the_old_topics(
    subscriber: Subscriber, config: Config, runs: Callable[..., Node]
) -> None:
    """It ends there, once; and nothing of the old topics is retained any longer."""
    raised = {"id": "n1-0", "type": "start", "node": "n1", "time_ms": 0, "duration_s": 0.0}
    node = runs(["m1", "m2"])
    tell(node, "m1", raised)
    tell(node, "m2", {**raised, "id": "n1-1", "type": "end"})
    wait_until(lambda: len(node.outbox) == 0, "both alerts to be delivered")
    moved = runs(["m1"], replace(config, mqtt=replace(config.mqtt, base="hall")))

    moved.forget_all_but(["m1"])
    wait_until(lambda: len(moved.outbox) == 0, "all alerts to be delivered")
    cleared = [f"{NODE}/{one}" for one in ("m1/state", "m2/state", "availability")]
    looked_after(
        moved,
        lambda: all(subscriber.on(topic)[-1:] == [b""] for topic in cleared),
        "all is cleared",
    )

    told = [json.loads(payload)["type"] for payload in subscriber.on(f"{NODE}/m1/event")]
    assert told == ["start", "end"]
    assert len(subscriber.on(f"{NODE}/m2/event")) == 1
    assert subscriber.on(f"{NODE}/m1/state") == [b"{}", b""]
    assert subscriber.on(f"{NODE}/availability")[-1] == b""
    assert subscriber.on(f"{NODE}/health")[-1] == b""


def looked_after(node: Node, holds: Callable[[], object], what: str) -> None:
    """Wait until something *holds*, while the node looks after what it has retained."""

    def look() -> object:
        node.look_after()
        return holds()

    wait_until(look, what)


@pytest.mark.parametrize(
    ("node", "base"), [("n2", ""), ("n1", "hall"), ("n2", "hall/2"), ("n1", "")]
)
def test_node_with_another_name_leaves_nothing_of_the_old_one(
    broker: Mosquitto, config: Config, runs: Callable[..., Node], node: str, base: str
) -> None:
    """Availability, health and states go with the name, those of machines with the machines."""
    runs(["m1", "m2"])
    other = Topics("", "n3")
    foreign = Connection(config.mqtt, "foreign")
    foreign.publish(other.availability, b"offline", qos=0, retain=True)

    renamed = replace(config, node=node, mqtt=replace(config.mqtt, base=base))
    now = runs(["m2"], renamed)
    wanted = {*all_of(Topics(base, node), "m2"), other.availability}
    looked_after(now, lambda: retained_at(broker) == wanted, "the old name is gone")
    runs.end()  # type: ignore[attr-defined]
    foreign.close(cleanly=True)

    noted = (config.state_dir / "retained.txt").read_text()
    assert {line.split()[1] for line in noted.splitlines() if line.startswith("retained")} == (
        all_of(Topics(base, node), "m2")
    )


def test_node_renamed_while_the_broker_is_away_clears_when_it_is_back(
    broker: Mosquitto, config: Config, runs: Callable[..., Node]
) -> None:
    """However many runs and names it takes, until the broker has acknowledged it."""
    first = runs(["m1"])
    wait_until(lambda: retained_at(broker) == all_of(first.topics, "m1"), "all is retained")
    runs.end()  # type: ignore[attr-defined]
    broker.stop()
    for name in ("n2", "n3"):
        runs(["m1"], replace(config, node=name)).look_after()
    last = runs(["m1"], replace(config, node="n4"))

    broker.start()

    looked_after(
        last, lambda: retained_at(broker) == all_of(last.topics, "m1"), "the old names are gone"
    )


def test_node_renamed_leaves_the_old_name_to_who_has_it_now(
    broker: Mosquitto, config: Config, runs: Callable[..., Node], caplog: pytest.LogCaptureFixture
) -> None:
    """A copy of a disk that is given a name of its own takes nothing from the node it came from."""
    first = runs(["m1"])
    wait_until(lambda: retained_at(broker) == all_of(first.topics, "m1"), "all is retained")
    copied = replace(config, state_dir=config.state_dir.with_name("copy"), node="n2")
    shutil.copytree(config.state_dir, copied.state_dir)

    copy = Node(copied)
    copy.publisher.start()
    copy.forget_all_but(["m1"])
    copy.remember(["m1"])
    looked_after(copy, lambda: copy.publisher.connected, "connected")
    copy.look_after()
    tell_health(first)
    looked_after(copy, lambda: "in use by another client" in caplog.text, "it sees the other")
    copy.stop()
    copy.outbox.close()

    assert retained_at(broker) >= all_of(first.topics, "m1")
    assert "n1/" not in (copied.state_dir / "retained.txt").read_text()


def test_nodes_of_one_name_say_so_and_nodes_alone_do_not(
    config: Config, runs: Callable[..., Node]
) -> None:
    """Both hear of each other, whether they disconnect each other or not."""
    first = runs(["m1"])
    twin = Node(replace(config, state_dir=config.state_dir.with_name("twin")))
    wait_until(lambda: first.publisher.connected, "connected")
    looked_after(first, lambda: first.publisher.fault == "", "well")
    assert first.fault == ""

    def look() -> bool:
        for one in (first, twin):
            one.look_after()
            tell_health(one)
        return all("another client has the name n1" in one.fault for one in (first, twin))

    twin.publisher.start()
    wait_until(look, "both say so")
    twin.stop()
    twin.outbox.close()


def test_node_said_to_be_offline_says_all_again(
    broker: Mosquitto, config: Config, runs: Callable[..., Node]
) -> None:
    """Another that had its name, or a tool, wiped what it retains: it is told again."""
    node = runs(["m1"])
    wait_until(lambda: retained_at(broker) == all_of(node.topics, "m1"), "all is retained")

    vandal = Connection(config.mqtt, "vandal")
    for topic in all_of(node.topics, "m1"):
        vandal.publish(topic, b"", qos=0, retain=True)
    vandal.close(cleanly=True)

    looked_after(
        node, lambda: retained_at(broker) == all_of(node.topics, "m1"), "all is said again"
    )


def test_node_that_goes_to_another_broker_leaves_nothing_at_the_old_one(
    broker: Mosquitto, config: Config, runs: Callable[..., Node]
) -> None:
    """By a reload it is cleared; what is on the way to be cleared goes on at the same broker."""
    node = runs(["m1"])
    wait_until(lambda: retained_at(broker) == all_of(node.topics, "m1"), "all is retained")

    node.connect_as(replace(config.mqtt, host="localhost"))

    wait_until(lambda: node.topics.health not in retained_at(broker), "cleared")
    assert node.topics.state("m1") not in retained_at(broker)


def test_node_whose_reload_went_wrong_clears_a_machine_after_the_next_one(
    broker: Mosquitto, config: Config, runs: Callable[..., Node]
) -> None:
    """A machine that went while the broker refused the node is cleared once it does not."""
    node = runs(["m1", "m2"])
    wait_until(lambda: retained_at(broker) == all_of(node.topics, "m1", "m2"), "all is retained")
    node.connect_as(replace(config.mqtt, port=free_port()))
    node.forget("m2")
    node.look_after()

    node.connect_as(config.mqtt)

    looked_after(node, lambda: node.topics.state("m2") not in retained_at(broker), "cleared")
    looked_after(
        node,
        lambda: "m2" not in (config.state_dir / "retained.txt").read_text(),
        "struck out",
    )


def test_node_that_goes_while_the_broker_is_away_says_what_stays_there(
    broker: Mosquitto, config: Config, runs: Callable[..., Node], caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be cleared is told, and cleared when that broker is used again."""
    node = runs(["m1"])
    wait_until(lambda: retained_at(broker) == all_of(node.topics, "m1"), "all is retained")
    broker.stop()
    wait_until(lambda: not node.publisher.connected, "the loss is noticed")

    node.connect_as(replace(config.mqtt, host="localhost"))
    broker.start()
    back = runs(["m2"])
    looked_after(
        back, lambda: retained_at(broker) == all_of(back.topics, "m2"), "the machine is cleared"
    )

    assert (
        "the messages retained at the broker 127.0.0.1, which is no longer used, stay there: "
        f"{NODE}/availability, {NODE}/health, {NODE}/m1/state"
    ) in caplog.text


def test_node_that_may_not_clear_its_old_name_says_so_and_goes_on(
    tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """An access control list that knows the new name only is told once; alerts get out."""
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite #\n")
    broker = Mosquitto(tmp_path / "closed", lines=[f"acl_file {acl}"])
    broker.start()
    mqtt = replace(config.mqtt, port=broker.port, version="5")
    config.state_dir.mkdir()

    def run(name: str) -> Node:
        node = Node(replace(config, node=name, mqtt=mqtt))
        node.publisher.start()
        node.forget_all_but([])
        tell_health(node)
        wait_until(lambda: node.topics.health in retained_at(broker), "health is retained")
        return node

    first = run("n1")
    first.stop()
    first.outbox.close()
    acl.write_text("topic read #\ntopic readwrite edgeasd/v1/n2/#\n")
    broker.reload()
    renamed = run("n2")
    looked_after(renamed, lambda: "does not let this account clear" in caplog.text, "it is told")
    tell(renamed, "m1", {"id": "n2-0"})
    wait_until(lambda: len(renamed.outbox) == 0, "the alert gets out")
    renamed.look_after()

    assert renamed.fault == ""
    assert caplog.text.count("clear them by one that may") == 1
    assert f"{NODE}/availability" in (config.state_dir / "retained.txt").read_text()
    renamed.stop()
    renamed.outbox.close()
    broker.stop()
