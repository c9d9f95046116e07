"""How values are written in a payload: times, numbers that are not finite, and text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from edgeasd.common.text import printable

if TYPE_CHECKING:
    from edgeasd.publish.payloads.fields import Payload


@dataclass(frozen=True, slots=True)
class StreamClock:
    """Turns positions in a stream into times.

    Attributes:
        start_s: Unix time of sample 0, seconds.
        sample_rate: Sample rate of the stream, hertz.
    """

    start_s: float
    sample_rate: int

    def time_ms(self, sample: int) -> int:
        """Return the Unix time of *sample*, milliseconds."""
        return round(1000 * (self.start_s + sample / self.sample_rate))


def rfc3339(time_ms: int) -> str:
    """Return a Unix time in milliseconds as UTC, for example ``2026-11-22T16:15:34.120Z``."""
    moment = datetime.fromtimestamp(time_ms // 1000, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def finite(value: float) -> float | None:
    """Return *value*, or None if it is infinite or not a number, for which JSON has only null."""
    return value if math.isfinite(value) else None


def table(payload: Any) -> dict[str, Any]:
    """Return the fields of the dataclass *payload* by name, and those of its parts.

    Numbers in its parts become what `finite` returns.  Its own must be finite; see `encode`.
    """
    return {
        key: _finite(value) if isinstance(value, (dict, list)) else value
        for key, value in asdict(payload).items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return finite(value) if isinstance(value, float) else value


def encode(payload: Payload) -> bytes:
    """Return *payload* as compact JSON; floats survive the round trip exactly.

    Its texts may contain messages and names that come from outside.  Subscribers display them, so
    they are cleaned and bounded here.

    Raises:
        ValueError: If a number is not finite, which JSON cannot express.
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
