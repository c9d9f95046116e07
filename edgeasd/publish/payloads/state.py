"""The state message: how a machine is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgeasd.publish.payloads.encoding import rfc3339, table
from edgeasd.publish.payloads.fields import Count, EventId, Name, Payload, Time

State: TypeAlias = Literal[
    "ok", "alarm", "no_audio", "flat_signal", "too_quiet", "clipping", "stale", "learning"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePayload:
    """How a machine is now. Retained."""

    schema: Literal["edgeasd.state/1"]
    """Name and version of this schema."""
    node: Name
    """Name of the computer that listens."""
    machine: Name
    """Name of the machine."""
    state: State
    """How the machine is: ok, alarm, or why it cannot be judged."""
    since: Time
    """Since when the machine is in this state, UTC, RFC 3339 with milliseconds."""
    since_ms: Count
    """Since when the machine is in this state, milliseconds since 1970-01-01 UTC."""
    event_id: EventId | None
    """The event that last changed the alarm; null before the first."""
    score: float | None
    """The latest score; null when there is none."""
    threshold: float | None
    """Score at which the alarm is raised; same unit as the score. Null where no model can be
    used.
    """
    reason: str
    """Why the machine is in this state, in words; empty when it is ok."""


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
    """Return the message that says how a machine is now.

    Args:
        node: Name of this computer.
        machine: Name of the machine.
        state: How the machine is.
        since_s: Unix time since when the machine is in this state, seconds.
        event_id: The event that last changed the alarm, if any did.
        score: The latest score, if there is one.
        threshold: Score at which the alarm is raised; None where no model can be used.
        reason: Why the machine is in this state, in words; empty when all is well.
    """
    since_ms = round(1000 * since_s)
    return table(
        StatePayload(
            schema="edgeasd.state/1",
            node=node,
            machine=machine,
            state=state,
            since=rfc3339(since_ms),
            since_ms=since_ms,
            event_id=event_id,
            score=score,
            threshold=threshold,
            reason=reason,
        )
    )
