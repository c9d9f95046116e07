"""The wall clock may jump: events carry its time, and nothing else depends on it."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.detect.models import make_model
from tests.installation import NODE, Installation, events
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

if TYPE_CHECKING:
    pass

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(FAKETIME is None, reason="needs the Debian package faketime"),
]

HOUR_S = 3600.0
# In real time, as a microphone: an event for each second of an alarm that lasts.
MACHINE = """
[machine.simulator]
fault_duration_s = 0
[machine.alarm]
threshold = -1000.0
clear_threshold = -1001.0
raise_after = 1
update_every_s = 1.0
"""


class WallClock:
    """The wall clock of one process; that of this computer is left alone.

    Args:
        path: File that says by how much it is wrong.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.environment = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set(0.0)

    def set(self, offset_s: float) -> None:
        """Let it be wrong by so much from now on."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{offset_s:+.0f}\n")
        new.replace(self._path)


@pytest.fixture
def broker(broker: Mosquitto) -> Mosquitto:
    """A mosquitto that runs."""
    broker.start()
    return broker


@pytest.fixture
def installation(installation: Installation) -> Installation:
    """An installation of that broker with its machine."""
    installation.configure(MACHINE)
    return installation


def wrong_by_s(event: dict[str, Any], came_s: float) -> float:
    """How far the time of an event is from the true time that it came at, seconds."""
    return float(event["time_ms"] / 1000 - came_s)


def test_daemon_whose_clock_is_set_goes_on_and_tells_the_new_time(
    broker: Mosquitto, installation: Installation, tmp_path: Path
) -> None:
    """An hour forward, then back: times follow, while durations, alarm and delivery do not care."""
    clock = WallClock(tmp_path / "clock")
    subscriber = Subscriber(broker.port)
    installation.start(**clock.environment)
    wait_until(lambda: events(subscriber), "the alarm is raised", 60.0)
    offsets: list[float] = []

    for offset_s in (0.0, HOUR_S, -HOUR_S):
        clock.set(offset_s)
        n_events = len(events(subscriber))
        # Sound that was read before the clock was set may still be on its way.
        wait_until(lambda: len(events(subscriber)) >= n_events + 4, "events", 60.0)  # noqa: B023
        offsets.append(wrong_by_s(events(subscriber)[-1], time.time()))

    told = events(subscriber)
    states = [json.loads(payload)["state"] for payload in subscriber.on(f"{NODE}/m1/state")]
    health = [json.loads(payload) for payload in subscriber.on(f"{NODE}/health")]
    durations_s = [event["duration_s"] for event in told]
    steps_s = [after - before for before, after in itertools.pairwise(durations_s)]
    print(
        f"\nevents are off by {offsets} s; "
        f"their durations grow by {min(steps_s):.3f} to {max(steps_s):.3f} s"
    )
    assert [round(offset_s / HOUR_S, 2) for offset_s in offsets] == [0.0, 1.0, -1.0]
    # The score comes every 256 ms: four of them are the first that make a second.
    assert steps_s == pytest.approx([1.024] * len(steps_s))
    assert [event["type"] for event in told] == ["start", *["update"] * (len(told) - 1)]
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert list(dict.fromkeys(states)) == ["learning", "alarm"]
    uptimes_s = [one["uptime_s"] for one in health]
    assert uptimes_s == sorted(uptimes_s)
    assert max(uptimes_s) < HOUR_S / 2
    assert health[-1]["machines"][0]["gaps"] == 0
    assert health[-1]["mqtt"]["reconnects"] == 0
    subscriber.close()


@pytest.mark.parametrize("years", [-26.0, 27.0])
def test_alarm_over_a_restart_with_another_clock_has_a_true_duration(
    broker: Mosquitto, installation: Installation, tmp_path: Path, years: float
) -> None:
    """A clock that was set by years between two runs of the daemon is no part of it."""
    make_model(installation.folder / "tiny.onnx", clip_windows=4)
    clock = WallClock(tmp_path / "clock")
    subscriber = Subscriber(broker.port)
    began_s = time.monotonic()
    process = installation.start(**clock.environment)
    wait_until(lambda: events(subscriber), "the alarm is raised", 180.0)
    process.kill()
    process.wait(60)

    clock.set(years * 365.25 * 24 * HOUR_S)
    installation.configure(MACHINE.replace("-1000.0", "1000.0").replace("-1001.0", "999.0"))
    process = installation.start(**clock.environment)
    wait_until(lambda: events(subscriber)[-1]["type"] == "end", "the end", 180.0)
    took_s = time.monotonic() - began_s

    start, *_, end = events(subscriber)
    assert end["boot_id"] != start["boot_id"]
    assert abs(end["time_ms"] - start["time_ms"]) > 25 * 365 * 24 * HOUR_S * 1000
    assert 0.0 < end["duration_s"] < took_s
    subscriber.close()


@pytest.mark.parametrize("years", [-26.0, 27.0])
def test_clip_outlives_a_clock_that_is_set(
    broker: Mosquitto, installation: Installation, tmp_path: Path, years: float
) -> None:
    """Neither the run that hears of it nor the next one takes the clip for old."""
    del broker
    make_model(installation.folder / "tiny.onnx", clip_windows=4)
    installation.configure(MACHINE, mqtt="[clips]\nbefore_s = 1\nafter_s = 1")
    clock = WallClock(tmp_path / "clock")
    clips = installation.folder / "state" / "clips"
    process = installation.start(**clock.environment)
    wait_until(lambda: list(clips.glob("*.flac")), "the clip", 180.0)
    (first,) = clips.glob("*.flac")

    clock.set(years * 365.25 * 24 * HOUR_S)
    for _ in range(2):
        process.kill()
        process.wait(60)
        process = installation.start(**clock.environment)
        assert process.stderr is not None
        assert any("alarm" in line for line in process.stderr)

    assert first.exists()
