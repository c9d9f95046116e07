"""No event that was committed is lost, whatever is killed, stopped or cut."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeasd.common.config.keys import MqttConfig
from edgeasd.publish.mqtt.connection import Connection
from tests.installation import Installation
from tests.publish.brokers import Mosquitto, Subscriber, wait_until
from tests.publish.namespace import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to make a network namespace"),
]

SEED = 4
N_EVENTS = 1000
N_BROKER_KILLS, N_DAEMON_KILLS = 22, 52
CHECKOUT = Path(__file__).parents[2]
# An alarm that lasts, of sound as fast as it can be computed: an event a machine for each of its
# seconds.
MACHINE = """
[machine.simulator]
fault_duration_s = 0
paced = false
[machine.alarm]
threshold = -1000.0
clear_threshold = -1001.0
raise_after = 1
update_every_s = 1.0
"""


@dataclass
class Notes:
    """Events that the daemons committed, and those acknowledged, in order."""

    put: dict[str, str] = field(default_factory=dict)  # topic by id
    removed: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> Notes:
        """Read the notes so far; a line that a kill cut short does not count."""
        notes = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            verb, event_id, topic = [*line.split(" "), "", ""][:3]
            if verb == "put" and topic.endswith("/event"):
                notes.put[event_id] = topic
            elif verb == "remove":
                notes.removed.add(event_id)
        return notes


class Line:
    """A broker, a consumer that it remembers, and a daemon at the other end of a network cable."""

    def __init__(self, folder: Path) -> None:
        self.namespace = Namespace()
        deployed = (CHECKOUT / "deploy" / "mosquitto.conf").read_text().splitlines()
        kept = [line for line in deployed if line.startswith(("autosave_", "max_queued_"))]
        self.broker = Mosquitto(folder / "broker", lines=kept)
        self.broker.add_lines(f"listener {self.broker.port} {self.namespace.address}")
        self.broker.start()
        self.site = Installation(folder, self.broker.port)
        self.site.configure(MACHINE, MACHINE, mqtt="keepalive_s = 5")
        text = self.site.config.read_text()
        self.site.config.write_text(text.replace("127.0.0.1", self.namespace.address))
        self.consumer = Subscriber(self.broker.port, "edgeasd/v1/+/+/event", "historian")
        self.n_daemons = 0
        self._notes, self._log = folder / "notes", folder / "daemon.log"
        self._daemon: subprocess.Popen[bytes] | None = None

    def start_daemon(self) -> None:
        """Start the daemon on its side of the cable."""
        arguments = ["-m", "tests.publish.noting_daemon", str(self._notes), "run", "--config"]
        command = self.namespace.command(sys.executable, *arguments, str(self.site.config))
        with self._log.open("ab") as log:
            self._daemon = subprocess.Popen(command, stderr=log, cwd=CHECKOUT)
        self.n_daemons += 1

    def kill_daemon(self) -> None:
        """End the daemon as a power cut would."""
        if self._daemon is not None:
            self._daemon.kill()  # `ip netns exec` has become the daemon
            self._daemon.wait()
            self._daemon = None

    def restart_broker(self) -> None:
        """End the broker as a power cut would, and start it again."""
        self.broker.kill()
        self.broker.start()

    def notes(self) -> Notes:
        """The events committed so far."""
        return Notes.read(self._notes)

    def arrived(self) -> list[str]:
        """Ids of the events that the consumer got, in order, with those that came again."""
        return [message.json["id"] for message in list(self.consumer.messages)]

    def lines_with(self, words: str) -> int:
        """How often the daemon logged that."""
        return self._log.read_text().count(words)

    def wait_for_more(self, n_events: int) -> None:
        """Wait until that many more events are committed."""
        wanted = len(self.notes().put) + n_events
        wait_until(lambda: len(self.notes().put) >= wanted, f"{n_events} more events", 300.0)

    def say_last(self) -> None:
        """Wait until the consumer has all that the broker has for it."""
        connection = Connection(MqttConfig("127.0.0.1", self.broker.port), "last")
        connection.publish("edgeasd/v1/n1/last/event", b'{"id": "last"}', qos=1)
        connection.serve(1.0)
        wait_until(lambda: "last" in self.arrived(), "the last word")
        connection.close(cleanly=True)

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill_daemon()
        self.consumer.close()
        self.broker.stop()
        self.namespace.remove()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """The set-up of one test."""
    line = Line(tmp_path)
    yield line
    line.close()


def kill_at_random(line: Line, rng: random.Random) -> None:
    """Kill broker and daemon so many times, and start them again at once."""
    duration_s = 4.0 * N_DAEMON_KILLS
    actions: list[tuple[float, Callable[[], None]]] = [
        *((rng.uniform(0, duration_s), line.restart_broker) for _ in range(N_BROKER_KILLS)),
        *((rng.uniform(0, duration_s), line.kill_daemon) for _ in range(N_DAEMON_KILLS)),
    ]
    began_s = time.monotonic()
    line.start_daemon()
    for at_s, act in sorted(actions, key=lambda action: action[0]):
        time.sleep(max(0.0, began_s + at_s - time.monotonic()))
        act()
        if act == line.kill_daemon:
            line.start_daemon()
    line.wait_for_more(max(1, N_EVENTS - len(line.notes().put)))


def interrupt(
    line: Line, begin: Callable[[], None], end: Callable[[], None]
) -> tuple[float, float]:
    """Interrupt the connection; return the seconds until that, and until its end, was noticed."""
    n_arrived = len(line.arrived())
    wait_until(lambda: len(line.arrived()) > n_arrived, "events arrive", 120.0)
    n_lost, began_s = line.lines_with("was lost"), time.monotonic()
    begin()
    wait_until(lambda: line.lines_with("was lost") > n_lost, "the loss is noticed", 60.0)
    noticed_s = time.monotonic() - began_s
    line.wait_for_more(30)
    n_connected, ended_s = line.lines_with("connected to"), time.monotonic()
    end()
    wait_until(lambda: line.lines_with("connected to") > n_connected, "connected again", 120.0)
    return noticed_s, time.monotonic() - ended_s


def assert_nothing_lost(line: Line) -> None:
    """Check that all committed events arrived, each machine's in order; print the figures."""
    line.kill_daemon()
    notes = line.notes()
    line.start_daemon()  # sends what the one before left
    wait_until(
        lambda: notes.put.keys() <= set(line.arrived()) | line.notes().removed,
        "all that was committed has left the outbox",
        120.0,
    )
    line.say_last()
    arrived = [event_id for event_id in line.arrived() if event_id != "last"]
    missing = notes.put.keys() - set(arrived)
    lost_by_broker = missing & line.notes().removed
    print(
        f"\n{len(notes.put)} committed, {len(missing)} lost, {len(lost_by_broker)} of them "
        f"acknowledged by the broker, {len(arrived) - len(set(arrived))} duplicates of "
        f"{len(set(arrived))}, {line.n_daemons} daemons, {line.consumer.n_connections} connections "
        "of the consumer"
    )
    assert missing == set()
    for topic in set(notes.put.values()):
        committed = [event_id for event_id in notes.put if notes.put[event_id] == topic]
        came = [event_id for event_id in dict.fromkeys(arrived) if event_id in set(committed)]
        assert came == committed


def test_daemon_and_broker_killed_stopped_and_cut_off_lose_nothing(line: Line) -> None:
    """A consumer that the broker remembers gets every committed event, each machine's in order."""
    began_s = time.monotonic()

    kill_at_random(line, random.Random(SEED))
    killed_s = time.monotonic() - began_s
    n_put = len(line.notes().put)
    hung_s = interrupt(line, line.broker.hang, line.broker.resume)
    cut_s = interrupt(line, line.namespace.cut, line.namespace.mend)

    assert_nothing_lost(line)
    print(
        f"{N_BROKER_KILLS} kills of the broker and {N_DAEMON_KILLS} of the daemon in "
        f"{killed_s:.0f} s and {n_put} events; broker hung: noticed after {hung_s[0]:.1f} s, over "
        f"{hung_s[1]:.1f} s after its end; network cut: {cut_s[0]:.1f} s, {cut_s[1]:.1f} s; "
        f"all in {time.monotonic() - began_s:.0f} s"
    )
