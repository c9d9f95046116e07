"""The sizes that are tried are those of the messages that the daemon sends."""

from __future__ import annotations

from dataclasses import replace

from edgeasd import __version__
from edgeasd.baseline.score_drift import Drift
from edgeasd.baseline.validity import AlarmCount
from edgeasd.cli.check.broker import EVENT_BYTES, HEALTH_BYTES, MACHINE_BYTES
from edgeasd.common.types import AlarmEvent
from edgeasd.publish.clips.folder import clip_name
from edgeasd.publish.payloads.encoding import StreamClock, encode
from edgeasd.publish.payloads.event import AudioQuality, event_id, event_payload
from edgeasd.publish.payloads.fields import ModelIdentity
from edgeasd.publish.payloads.health import (
    CalibrationHealth,
    ClipsHealth,
    MachineHealth,
    MqttHealth,
    health_payload,
)

TEXT = "x" * 200  # as long as what is said of a fault
NAME = "n" * 64
FLOAT = -123.45678901234567
COUNT = 10**9
MODEL = ModelIdentity(NAME, "0" * 64, "v" * 32)
MACHINE = MachineHealth(
    name=NAME,
    state="flat_signal",
    reason=TEXT,
    blocks=COUNT,
    windows=COUNT,
    gaps=COUNT,
    overruns=COUNT,
    real_time_factor=FLOAT,
    late_s=FLOAT,
    restarts=COUNT,
    level_dbfs=FLOAT,
    drift_ppm=FLOAT,
    model=MODEL,
    model_fault=TEXT,
    calibration=CalibrationHealth(
        COUNT,
        TEXT,
        Drift(FLOAT, 24, drifted=False),
        AlarmCount(COUNT, FLOAT, FLOAT, too_many=False),
    ),
)


def test_event_is_no_larger_than_what_is_tried() -> None:
    """An event of long names and numbers takes more than half of it, and not more than all."""
    event = event_payload(
        AlarmEvent("update", FLOAT, FLOAT, FLOAT, 3, COUNT),
        node=NAME,
        machine=NAME,
        boot_id="0" * 8,
        seq=COUNT,
        clock=StreamClock(1e9, 16_000),
        clock_synced=False,
        model=MODEL,
        audio=AudioQuality(FLOAT, COUNT, COUNT),
        clip=clip_name(10**12, NAME, event_id(NAME, "0" * 8, COUNT)),
    )

    assert EVENT_BYTES / 2 < len(encode(event)) <= EVENT_BYTES


def test_health_is_no_larger_than_what_is_tried() -> None:
    """So is health with a long word on everything; each machine adds no more than is reckoned."""

    def n_bytes(n_machines: int) -> int:
        machines = [replace(MACHINE, name=NAME[2:] + f"{n:02}") for n in range(n_machines)]
        return len(
            encode(
                health_payload(
                    node=NAME,
                    time_s=1e9,
                    version=__version__,
                    uptime_s=FLOAT,
                    boot_id="0" * 8,
                    mqtt=MqttHealth(
                        connected=False,
                        reconnects=COUNT,
                        queued_events=COUNT,
                        dropped_events=COUNT,
                        fault=TEXT,
                    ),
                    machines=machines,
                    storage_fault=TEXT,
                    clips=ClipsHealth(ok=False, reason=TEXT, written=COUNT, dropped=COUNT),
                    refused=[TEXT],
                )
            )
        )

    assert HEALTH_BYTES / 2 < n_bytes(0) <= HEALTH_BYTES
    assert MACHINE_BYTES / 2 < n_bytes(2) - n_bytes(1) <= MACHINE_BYTES
