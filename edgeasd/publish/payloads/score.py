"""The score message: a summary of the scores of a machine since the previous one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgeasd.publish.payloads.encoding import StreamClock, finite, rfc3339, table
from edgeasd.publish.payloads.fields import Count, Name, Payload, Positive, Time

if TYPE_CHECKING:
    from edgeasd.common.types import Score


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePayload:
    """The scores of a machine since the previous message."""

    schema: Literal["edgeasd.score/1"]
    """Name and version of this schema."""
    node: Name
    """Name of the computer that listens."""
    machine: Name
    """Name of the machine."""
    time: Time
    """When the sound behind the last score ended, UTC, RFC 3339 with milliseconds."""
    time_ms: Count
    """When the sound behind the last score ended, milliseconds since 1970-01-01 UTC."""
    first_sample: Count
    """Position of the first sample behind the last score, samples since the stream started."""
    n_samples: Positive
    """Number of samples behind the last score."""
    score: float
    """The last score; higher is more anomalous. The unit depends on the model."""
    min: float
    """Lowest of the scores."""
    mean: float
    """Mean of the scores."""
    max: float
    """Highest of the scores."""
    n_scores: Positive
    """Number of scores since the previous message."""
    threshold: float
    """Score at which the alarm is raised; same unit as the score."""
    level_dbfs: float | None
    """Level of the sound, dB re full scale; null is digital silence."""


def score_payload(
    scores: Sequence[Score],
    *,
    node: str,
    machine: str,
    clock: StreamClock,
    threshold: float,
    level_dbfs: float,
) -> Payload:
    """Return a summary of the scores since the previous message.

    Args:
        scores: In order, at least one; position and time are those of the last.
        node: Name of this computer.
        machine: Name of the machine.
        clock: Clock of the stream that *scores* count samples of.
        threshold: Score at which the alarm is raised.
        level_dbfs: Level of the sound re full scale, decibels.
    """
    last, values = scores[-1], [score.value for score in scores]
    time_ms = clock.time_ms(last.end_sample)
    return table(
        ScorePayload(
            schema="edgeasd.score/1",
            node=node,
            machine=machine,
            time=rfc3339(time_ms),
            time_ms=time_ms,
            first_sample=last.first_sample,
            n_samples=last.n_samples,
            score=last.value,
            min=min(values),
            mean=math.fsum(values) / len(values),
            max=max(values),
            n_scores=len(values),
            threshold=threshold,
            level_dbfs=finite(level_dbfs),
        )
    )
