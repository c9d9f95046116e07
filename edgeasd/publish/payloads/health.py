"""The health message: how the node and everything on it is."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from edgeasd.baseline.score_drift import Drift
from edgeasd.baseline.validity import AlarmCount
from edgeasd.common.documents.reading import at_least, between
from edgeasd.publish.payloads.encoding import encode, rfc3339, table
from edgeasd.publish.payloads.fields import (
    BootId,
    Count,
    Duration,
    FloatOrNull,
    ModelIdentity,
    Name,
    Payload,
    Positive,
    SchemaOf,
    Time,
)
from edgeasd.publish.payloads.state import State


@dataclass(frozen=True, slots=True)
class MqttHealth:
    """How alerts get out."""

    connected: bool
    """Whether the broker has accepted the connection."""
    reconnects: Count
    """Connections accepted after the first one."""
    queued_events: Count
    """Events that wait for the broker's acknowledgement."""
    dropped_events: Count
    """Events given up because too many waited, or for too long, or because no broker took them."""
    fault: str
    """What does not get out, alerts above all, and why, in words; empty when all does."""


@dataclass(frozen=True, slots=True)
class ClipsHealth:
    """How the sound around alarms is kept."""

    ok: bool
    """Whether clips can be written, as far as is known."""
    reason: str
    """Why they cannot be written, in words; empty when they can."""
    written: Count
    """Clips written since the start."""
    dropped: Count
    """Clips given up because too many waited for the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreDrift:
    """How the scores moved since calibration; made from `edgeasd.baseline.score_drift.Drift`."""

    shift: float
    """Median score of the last hours minus that at calibration, over half the range from 5 to 95 %
    of the scores then.
    """
    hours: Annotated[int, between(1, 24)]
    """Hours of sound that it rests on."""
    drifted: bool
    """Whether this is more than chance and more than a little: calibrate again, or look at machine
    and microphone.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmsRaised:
    """How often the alarm was raised; made from `edgeasd.baseline.validity.AlarmCount`."""

    raised: Count
    """Alarms that began in the last day of sound."""
    hours: Annotated[float, between(0, 24)]
    """Hours of sound that it rests on, at most 24."""
    foreseen: Duration
    """The most to expect in normal sound, by the upper end of the calibration's interval."""
    too_many: bool
    """Whether there are more than chance would bring: look at the machine; if it is well, calibrate
    on its sound of today.
    """


@dataclass(frozen=True, slots=True)
class CalibrationHealth:
    """What the threshold of a machine rests on."""

    version: Positive | None
    """Version of the calibration in force; null where the threshold is the model's own."""
    warning: str
    """What is wrong with the calibration, in words; empty when all is well."""
    score_drift: Annotated[Drift | None, SchemaOf(ScoreDrift | None)]
    """How the scores moved since calibration; null when not known yet."""
    alarms: Annotated[AlarmCount | None, SchemaOf(AlarmsRaised | None)]
    """How often the alarm was raised lately; null when not known yet, or where the threshold is not
    the calibration's.
    """


@dataclass(frozen=True, slots=True)
class MachineHealth:
    """How one machine is listened to."""

    name: Name
    """Name of the machine."""
    state: State
    """How the machine is: ok, alarm, or why it cannot be judged."""
    reason: str
    """Why the machine is in this state, in words; empty when it is ok."""
    blocks: Count
    """Blocks of sound received."""
    windows: Count
    """Windows scored."""
    gaps: Count
    """Interruptions of the stream since it started."""
    overruns: Count
    """Blocks of sound lost since the stream started because the computer was too slow."""
    real_time_factor: Annotated[FloatOrNull, at_least(0)]
    """Seconds of computing per second of sound; null when not known yet."""
    level_dbfs: FloatOrNull
    """Level of the sound, dB re full scale; null is digital silence."""
    drift_ppm: FloatOrNull
    """By how many millionths the microphone's clock is fast against the computer's; null when not
    known yet, or not a microphone.
    """
    model: ModelIdentity
    """The model that scores."""
    model_fault: str
    """Why a model file that changed is not used, in words; empty when all is well."""
    calibration: CalibrationHealth
    """What the threshold rests on."""
    late_s: Duration
    """For how long the latest sound heard had waited because the computer was too slow, seconds."""
    restarts: Count
    """How often since the start an error ended listening, which then began anew."""


@dataclass(frozen=True, slots=True)
class StorageHealth:
    """Whether undelivered alerts outlive a power cut."""

    ok: bool
    """Whether they are on disk."""
    reason: str
    """Why they are not on disk, in words; empty when they are."""


@dataclass(frozen=True, slots=True)
class ConfigurationHealth:
    """Whether the configuration file last read is applied."""

    ok: bool
    """Whether all of it is applied."""
    refused: list[str]
    """What is not applied, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPayload:
    """How the node is. Retained."""

    schema: Literal["edgeasd.health/1"]
    """Name and version of this schema."""
    node: Name
    """Name of the computer that listens."""
    time: Time
    """When this was written, UTC, RFC 3339 with milliseconds."""
    time_ms: Count
    """When this was written, milliseconds since 1970-01-01 UTC."""
    version: str
    """Version of edgeasd."""
    uptime_s: Duration
    """Seconds since the daemon started."""
    boot_id: BootId
    """Name of this run of the daemon."""
    mqtt: MqttHealth
    """How alerts get out."""
    machines: list[MachineHealth]
    """How each machine is listened to."""
    storage: StorageHealth
    """Whether undelivered alerts outlive a power cut."""
    clips: ClipsHealth | None
    """How the sound around alarms is kept; null where it is not."""
    configuration: ConfigurationHealth
    """Whether the configuration file last read is applied."""
    truncated: bool
    """Whether the whole message is larger than the broker takes: some machines are left out, and
    perhaps the words on what of the configuration is not applied.
    """


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
    """Return the message that says how the node is.

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
        refused: What of the last configuration is not applied, in words.
    """
    time_ms = round(1000 * time_s)
    return table(
        HealthPayload(
            schema="edgeasd.health/1",
            node=node,
            time=rfc3339(time_ms),
            time_ms=time_ms,
            version=version,
            uptime_s=uptime_s,
            boot_id=boot_id,
            mqtt=mqtt,
            machines=list(machines),
            storage=StorageHealth(storage_fault == "", storage_fault),
            clips=clips,
            configuration=ConfigurationHealth(not refused, list(refused)),
            truncated=False,
        )
    )


def encode_health(payload: Payload, room: int | None) -> bytes:
    """Return a health payload as JSON of at most *room* bytes, if possible; None for any number.

    To make it fit, machines are left out, those in state ok first, and then the words on what of
    the configuration is not applied; ``truncated`` says so.
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
