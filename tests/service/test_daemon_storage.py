"""The daemon goes on when its disk is full, breaks or was never to be written, and says so."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.installation import NODE, Installation, events
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount a file system"),
]

# An alarm that lasts: an event for each second of sound.
MACHINE = """
[machine.simulator]
fault_duration_s = 0
paced = false
[machine.alarm]
threshold = -1000.0
clear_threshold = -1001.0
raise_after = 1
update_every_s = 5.0
"""


@pytest.fixture
def broker(broker: Mosquitto) -> Mosquitto:
    """A mosquitto that runs."""
    broker.start()
    return broker


@pytest.fixture
def installation(installation: Installation) -> Iterator[Installation]:
    """An installation of that broker; its state directory becomes a mount point."""
    installation.configure(MACHINE)
    state(installation).mkdir()
    yield installation
    for process in installation.processes:
        process.kill()
        process.wait()
    while state(installation).is_mount():
        subprocess.run(["umount", "-l", state(installation)], check=True)


def state(installation: Installation) -> Path:
    """The state directory."""
    return installation.folder / "state"


def mount(installation: Installation, *options: str) -> None:
    """Mount something on the state directory."""
    subprocess.run(["mount", *options, state(installation)], check=True)


def mount_disk(installation: Installation, name: str) -> None:
    """Mount a new file system of 8 MB, in a file, on the state directory."""
    image = installation.folder / name
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mount(installation, "-o", "loop,errors=remount-ro", str(image))


def storage(subscriber: Subscriber) -> list[dict[str, Any]]:
    """Return what each health message says of storage."""
    payloads = subscriber.on(f"{NODE}/health")
    return [dict(json.loads(payload)["storage"]) for payload in payloads]


def wait_for_fault(subscriber: Subscriber) -> str:
    """Wait until a health message tells a fault of storage, and return it."""

    def faults() -> list[str]:
        return [said["reason"] for said in storage(subscriber) if not said["ok"]]

    wait_until(faults, "a fault of storage", 60.0)
    return faults()[0]


def wait_for_recovery(subscriber: Subscriber) -> None:
    """Wait until the last health message says that storage is in order."""
    wait_until(lambda: storage(subscriber)[-1]["ok"], "storage in order", 60.0)


def assert_complete(subscriber: Subscriber) -> None:
    """Check that every event of the daemon's run came, once and in order."""
    numbers = [event["seq"] for event in events(subscriber)]
    print(f"\n{len(numbers)} events, {len(numbers) - len(set(numbers))} of them again")
    assert numbers == list(range(1, len(numbers) + 1))


def wait_for_events(subscriber: Subscriber, n_more: int = 5) -> None:
    """Wait for new events."""
    n_events = len(events(subscriber))
    wait_until(lambda: len(events(subscriber)) >= n_events + n_more, "more events", 60.0)


def test_daemon_on_a_full_disk_delivers_and_says_so_until_there_is_room(
    broker: Mosquitto, installation: Installation
) -> None:
    """No event is lost, with the broker there or away, and the health message tells the fault."""
    mount(installation, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    subscriber = Subscriber(broker.port, client_id="historian")
    installation.start()
    wait_for_events(subscriber)

    filler = state(installation) / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    wait_for_events(subscriber)  # by the room that the outbox has already
    broker.hang()
    subprocess.run(["sleep", "12"], check=True)  # more events come than there is room for
    broker.resume()
    told = wait_for_fault(subscriber)
    wait_for_events(subscriber)
    filler.unlink()
    wait_for_recovery(subscriber)
    wait_for_events(subscriber)

    assert "database or disk is full; alerts wait in memory" in told
    assert_complete(subscriber)
    subscriber.close()


def test_daemon_whose_disk_breaks_goes_on_with_the_next_one(
    broker: Mosquitto, installation: Installation
) -> None:
    """A file system that the kernel turns read-only is told; a new one in its place is used."""
    mount_disk(installation, "first.img")
    subscriber = Subscriber(broker.port)
    installation.start()
    wait_for_events(subscriber)

    # What the kernel does on an error of the disk.
    mount(installation, "-o", "remount,abort")
    told = wait_for_fault(subscriber)
    wait_for_events(subscriber)
    mount_disk(installation, "second.img")
    wait_for_recovery(subscriber)
    wait_for_events(subscriber)

    assert "alerts wait in memory until it can be written" in told
    assert (state(installation) / "outbox.sqlite3").exists()
    assert_complete(subscriber)
    subscriber.close()


def test_daemon_with_a_read_only_state_directory_does_not_start(installation: Installation) -> None:
    """It ends with the exit code of a directory that cannot be written, and says which."""
    mount(installation, "-t", "tmpfs", "-o", "ro", "tmpfs")

    process = installation.start()
    _, log = process.communicate(timeout=60)

    assert process.returncode == os.EX_CANTCREAT
    assert (
        f"state_dir={state(installation)} must be a directory that the user who runs edgeasd can"
        in log
    )
    assert "Traceback" not in log
