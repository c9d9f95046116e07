"""The event message: an alarm starts, lasts or ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from edgeasd.publish.payloads.encoding import StreamClock, rfc3339, table
from edgeasd.publish.payloads.fields import (
    BootId,
    Count,
    Duration,
    EventId,
    FloatOrNull,
    ModelIdentity,
    Name,
    Payload,
    Time,
    like,
)

if TYPE_CHECKING:
    from edgeasd.common.types import AlarmEvent


@dataclass(frozen=True, slots=True)
class AudioQuality:
    """How far the sound can be trusted."""

    level_dbfs: FloatOrNull
    """Level of the sound, dB re full scale; null is digital silence."""
    gaps: Count
    """Interruptions of the stream since it started."""
    overruns: Count
    """Blocks of sound lost since the stream started because the computer was too slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPayload:
    """The start, the continuation or the end of an alarm. The same id means the same event."""

    schema: Literal["edgeasd.event/1"]
    """Name and version of this schema."""
    id: EventId
    """Unique name of the event; a repeated delivery carries the same."""
    type: Literal["start", "update", "end"]
    """Whether the alarm starts, lasts or ends."""
    time: Time
    """When the sound that made the event ended, UTC, RFC 3339 with milliseconds."""
    time_ms: Count
    """When the sound that made the event ended, milliseconds since 1970-01-01 UTC."""
    clock_synced: bool
    """Whether the computer's clock was synchronised."""
    boot_id: BootId
    """Name of this run of the daemon."""
    seq: Count
    """Number of the event within this run of the daemon."""
    node: Name
    """Name of the computer that listens."""
    machine: Name
    """Name of the machine."""
    first_sample: Count
    """Position just after the sound that made the event, samples since the stream started."""
    score: float
    """How unlike normal the sound is; higher is more anomalous. The unit depends on the model."""
    threshold: float
    """Score at which the alarm is raised; same unit as the score."""
    clear_threshold: float
    """Score below which the alarm may end; same unit as the score."""
    duration_s: Duration
    """Seconds since the alarm started. If the computer was rebooted since then, only those count in
    which the daemon listened.
    """
    model: ModelIdentity
    """The model that scores."""
    audio: AudioQuality
    """How far the sound can be trusted."""
    clip: Annotated[str, like(r"^\d{8}T\d{6}Z_.+_.+\.flac$")] | None
    """Name of a FLAC file with the sound around the start, in the node's folder of clips. The file
    appears some seconds after the event; later, or never, if the disk does not take it (see
    clips in the health message). Sound that was lost is silence in it. Null where no clip is
    kept, and in update and end.
    """


def event_id(node: str, boot_id: str, seq: int) -> str:
    """Return the name of an event, which never changes."""
    return f"{node}-{boot_id}-{seq:06d}"


def event_payload(
    event: AlarmEvent,
    *,
    node: str,
    machine: str,
    boot_id: str,
    seq: int,
    clock: StreamClock,
    clock_synced: bool,
    model: ModelIdentity,
    audio: AudioQuality,
    clip: str | None = None,
) -> Payload:
    """Return the message that an alarm starts, lasts or ends.

    Args:
        event: The change of the alarm.
        node: Name of this computer.
        machine: Name of the machine.
        boot_id: Name of this run of the daemon, eight hexadecimal digits.
        seq: Number of the event within the run.
        clock: Clock of the stream that *event* counts samples of.
        clock_synced: Whether the computer's clock was synchronised.
        model: The model behind the score.
        audio: Quality of the sound behind the score.
        clip: Name of the file with the sound around the event, if one is kept.
    """
    time_ms = clock.time_ms(event.first_sample)
    return table(
        EventPayload(
            schema="edgeasd.event/1",
            id=event_id(node, boot_id, seq),
            type=event.type,
            time=rfc3339(time_ms),
            time_ms=time_ms,
            clock_synced=clock_synced,
            boot_id=boot_id,
            seq=seq,
            node=node,
            machine=machine,
            first_sample=event.first_sample,
            score=event.score,
            threshold=event.threshold,
            clear_threshold=event.clear_threshold,
            duration_s=(event.first_sample - event.start_sample) / clock.sample_rate,
            model=model,
            audio=audio,
            clip=clip,
        )
    )


def closing_payload(
    last: Payload,
    *,
    boot_id: str,
    seq: int,
    time_s: float,
    clock_synced: bool,
    raised_s: float,
) -> Payload:
    """Return the ``end`` of an alarm whose machine is no longer listened to.

    Args:
        last: The last message about the alarm, as made by `event_payload`.
        boot_id: Name of this run of the daemon.
        seq: Number of the event within the run.
        time_s: Unix time now, seconds.
        clock_synced: Whether the computer's clock is synchronised.
        raised_s: How long the alarm lasted, seconds.
    """
    time_ms = round(1000 * time_s)
    return {
        **last,
        "id": event_id(last["node"], boot_id, seq),
        "type": "end",
        "time": rfc3339(time_ms),
        "time_ms": time_ms,
        "clock_synced": clock_synced,
        "boot_id": boot_id,
        "seq": seq,
        "duration_s": raised_s,
        "clip": None,
    }
