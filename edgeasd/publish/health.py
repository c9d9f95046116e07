"""What is published of the node: how everything is.  Pure; see `payloads`."""

from __future__ import annotations

import bisect
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeasd.publish.payloads import ModelIdentity, Payload, State, encode, finite, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeasd.baseline.score_drift import Drift
    from edgeasd.baseline.validity import AlarmCount


@dataclass(frozen=True, slots=True)
class MqttHealth:
    """How alerts get out.

    Attributes:
        connected: Whether the broker has accepted the connection.
        reconnects: Connections accepted after the first one.
        queued_events: Events that wait for the broker's acknowledgement.
        dropped_events: Events given up as too many waited, or for too long, or as no broker took
            them.
        fault: What does not get out, and why, in words; empty when all does.
    """

    connected: bool
    reconnects: int
    queued_events: int
    dropped_events: int
    fault: str


@dataclass(frozen=True, slots=True)
class ClipsHealth:
    """How the sound around alarms is kept.

    Attributes:
        ok: Whether clips can be written, as far as is known.
        reason: Why they cannot, in words; empty when they can.
        written: Clips written since the start.
        dropped: Clips given up.
    """

    ok: bool
    reason: str
    written: int
    dropped: int


@dataclass(frozen=True, slots=True)
class CalibrationHealth:
    """What the threshold of a machine rests on.

    Attributes:
        version: Of the site's calibration in force; `None` where the model's own threshold is.
        warning: What is wrong with it, in words; empty when all is well.
        score_drift: How the scores moved since; `None` when not known yet.
        alarms: How often the alarm was raised since; `None` when not known yet, or where the
            threshold is not the calibration's.
    """

    version: int | None
    warning: str
    score_drift: Drift | None
    alarms: AlarmCount | None


@dataclass(frozen=True, slots=True)
class MachineHealth:
    """How one machine is listened to.

    Attributes:
        name: Name of the machine.
        state: As in its state message.
        reason: As in its state message.
        blocks: Blocks of sound received.
        windows: Windows scored.
        gaps: Interruptions of the stream.
        overruns: Blocks lost as the computer was too slow.
        real_time_factor: Seconds of computing per second of sound; NaN when not known yet.
        level_dbfs: Level re full scale, decibels; minus infinity is digital silence.
        drift_ppm: By how many millionths the microphone's clock is fast; NaN when not known yet.
        model: The model that scores it.
        model_fault: Why a model file that changed is not used, in words; empty when all is well.
        calibration: What its threshold rests on.
        late_s: Seconds for which the latest sound heard had waited for a computer that is too slow.
        restarts: How often an error ended listening, which then began anew.
    """

    name: str
    state: State
    reason: str
    blocks: int
    windows: int
    gaps: int
    overruns: int
    real_time_factor: float
    level_dbfs: float
    drift_ppm: float
    model: ModelIdentity
    model_fault: str
    calibration: CalibrationHealth
    late_s: float = 0.0
    restarts: int = 0


def health_payload(
    *,
    node: str,
    time_s: float,
    version: str,
    uptime_s: float,
    boot_id: str,
    mqtt: MqttHealth,
    machines: Sequence[MachineHealth],
    storage_fault: str,
    clips: ClipsHealth | None,
    refused: Sequence[str],
) -> Payload:
    """Return how the node is.

    Args:
        node: Name of this computer.
        time_s: Unix time now, seconds.
        version: Version of edgeasd.
        uptime_s: Seconds since the daemon started.
        boot_id: Name of this run of the daemon.
        mqtt: How alerts get out.
        machines: How each machine is listened to.
        storage_fault: Why alerts cannot be stored, in words; empty when they can.
        clips: How the sound around alarms is kept; None if it is not.
        refused: What of the configuration last read is not applied, in words.
    """
    return {
        "schema": "edgeasd.health/1",
        "node": node,
        **when(round(1000 * time_s)),
        "version": version,
        "uptime_s": uptime_s,
        "boot_id": boot_id,
        "mqtt": dataclasses.asdict(mqtt),
        "machines": [finite(dataclasses.asdict(machine)) for machine in machines],
        "storage": {"ok": storage_fault == "", "reason": storage_fault},
        "clips": None if clips is None else dataclasses.asdict(clips),
        "configuration": {"ok": not refused, "refused": list(refused)},
        "truncated": False,
    }


def encode_health(payload: Payload, room: int | None) -> bytes:
    """Return the JSON of a health payload in at most *room* bytes, if that can be; None is any.

    Machines are left out until it fits, those that are well before others, and then the texts of
    what is not applied; ``truncated`` says so.
    """
    whole = encode(payload)
    if room is None or len(whole) <= room:
        return whole
    machines = sorted(payload["machines"], key=lambda machine: machine["state"] == "ok")

    def first(n_machines: int) -> bytes:
        return encode({**payload, "machines": machines[:n_machines], "truncated": True})

    n_sizes = range(len(machines))  # all of them were too large
    n_fitting = bisect.bisect_right(n_sizes, room, key=lambda n: len(first(n)))
    if n_fitting:
        return first(n_fitting - 1)
    configuration = {**payload["configuration"], "refused": []}
    return encode({**payload, "machines": [], "configuration": configuration, "truncated": True})
