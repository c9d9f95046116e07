"""What is published of machines: plain dictionaries, then bytes.

Pure: a position in the stream becomes a time here, by the start time handed in.
``deploy/schemas/`` describes every payload; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgeasd.common.text import printable

if TYPE_CHECKING:
    from edgeasd.common.types import AlarmEvent, Score

Payload: TypeAlias = dict[str, Any]
State: TypeAlias = Literal[
    "ok", "alarm", "no_audio", "flat_signal", "too_quiet", "clipping", "stale", "learning"
]


@dataclass(frozen=True, slots=True)
class StreamClock:
    """Turns positions in a stream into times.

    Attributes:
        start_s: Unix time of sample 0, seconds.
        sample_rate: Hertz.
    """

    start_s: float
    sample_rate: int

    def time_ms(self, sample: int) -> int:
        """Unix time of *sample*, milliseconds."""
        return round(1000 * (self.start_s + sample / self.sample_rate))


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model made a score; the hash is its file's, in lower-case hexadecimal."""

    id: str
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class AudioQuality:
    """How far the sound behind a score can be trusted.

    Attributes:
        level_dbfs: Level re full scale, decibels; minus infinity is digital silence.
        gaps: Interruptions of the stream.
        overruns: Blocks lost as the computer was too slow.
    """

    level_dbfs: float
    gaps: int
    overruns: int


def event_id(node: str, boot_id: str, seq: int) -> str:
    """Return the name of an event, the same for ever."""
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
    """Return what is said when an alarm starts, lasts or ends; ``id`` names it for ever.

    Args:
        event: The change of the alarm.
        node: Name of this computer.
        machine: Name of the machine.
        boot_id: Name of this run of the daemon, eight hexadecimal digits.
        seq: Number of the event within the run.
        clock: Of the stream that *event* counts samples of.
        clock_synced: Whether the computer's clock was synchronised.
        model: The model behind the score.
        audio: The sound behind the score.
        clip: Name of the file with the sound around the event, if one is kept.
    """
    return {
        "schema": "edgeasd.event/1",
        "id": event_id(node, boot_id, seq),
        "type": event.type,
        **when(clock.time_ms(event.first_sample)),
        "clock_synced": clock_synced,
        "boot_id": boot_id,
        "seq": seq,
        "node": node,
        "machine": machine,
        "first_sample": event.first_sample,
        "score": event.score,
        "threshold": event.threshold,
        "clear_threshold": event.clear_threshold,
        "duration_s": (event.first_sample - event.start_sample) / clock.sample_rate,
        "model": dataclasses.asdict(model),
        "audio": finite(dataclasses.asdict(audio)),
        "clip": clip,
    }


def closing_payload(
    last: Mapping[str, Any],
    *,
    boot_id: str,
    seq: int,
    time_s: float,
    clock_synced: bool,
    raised_s: float,
) -> Payload:
    """Return the ``end`` of an alarm whose machine is no longer listened to.

    Args:
        last: What was last said of the alarm, a payload of `event_payload`.
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
        **when(time_ms),
        "clock_synced": clock_synced,
        "boot_id": boot_id,
        "seq": seq,
        "duration_s": raised_s,
        "clip": None,
    }


def state_payload(
    *,
    node: str,
    machine: str,
    state: State,
    since_s: float,
    event_id: str | None,
    score: float | None,
    threshold: float | None,
    reason: str,
) -> Payload:
    """Return how a machine is now.

    Args:
        node: Name of this computer.
        machine: Name of the machine.
        state: How it is.
        since_s: Unix time since when it is so, seconds.
        event_id: The event that last changed the alarm, if any did.
        score: The latest score, if there is one.
        threshold: Score at which the alarm is raised; None where no model can be used.
        reason: Why it is so, in words; empty when all is well.
    """
    since_ms = round(1000 * since_s)
    return {
        "schema": "edgeasd.state/1",
        "node": node,
        "machine": machine,
        "state": state,
        "since": rfc3339(since_ms),
        "since_ms": since_ms,
        "event_id": event_id,
        "score": score,
        "threshold": threshold,
        "reason": reason,
    }


def score_payload(
    scores: Sequence[Score],
    *,
    node: str,
    machine: str,
    clock: StreamClock,
    threshold: float,
    level_dbfs: float,
) -> Payload:
    """Return a summary of the scores since the previous one.

    Args:
        scores: In order, at least one; position and time are those of the last.
        node: Name of this computer.
        machine: Name of the machine.
        clock: Of the stream that *scores* count samples of.
        threshold: Score at which the alarm is raised.
        level_dbfs: Level of the sound re full scale, decibels.
    """
    last, values = scores[-1], [score.value for score in scores]
    return {
        "schema": "edgeasd.score/1",
        "node": node,
        "machine": machine,
        **when(clock.time_ms(last.end_sample)),
        "first_sample": last.first_sample,
        "n_samples": last.n_samples,
        "score": last.value,
        "min": min(values),
        "mean": math.fsum(values) / len(values),
        "max": max(values),
        "n_scores": len(values),
        "threshold": threshold,
        **finite({"level_dbfs": level_dbfs}),
    }


def encode(payload: Mapping[str, Any]) -> bytes:
    """Return *payload* as compact JSON; floats survive the round trip exactly.

    Its strings, in which messages and names of others stand, are cleaned and bounded: who receives
    it shows them.

    Raises:
        ValueError: If a number is not finite, which JSON cannot say.
    """
    text = json.dumps(_cleaned(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {key: _cleaned(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(one) for one in value]
    return value


def rfc3339(time_ms: int) -> str:
    """Return a Unix time in milliseconds as UTC, for example ``2026-11-22T16:15:34.120Z``."""
    moment = datetime.fromtimestamp(time_ms // 1000, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def when(time_ms: int) -> Payload:
    """Return what a payload says of its Unix time in milliseconds."""
    return {"time": rfc3339(time_ms), "time_ms": time_ms}


def finite(values: Payload) -> Payload:
    """Return *values*, and the tables in it, with None for each number that is not finite."""
    # Digital silence is -inf dB, and what is not known yet NaN: JSON has null for them.
    return {
        key: finite(value)
        if isinstance(value, dict)
        else (None if isinstance(value, float) and not math.isfinite(value) else value)
        for key, value in values.items()
    }
