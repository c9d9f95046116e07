"""Reads JSON that somebody else wrote, within bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from edgeasd.common.documents.reading import DocumentError

_MOST_VALUES = 1_000_000
"""Values that are read, as each of a few bytes takes a hundred in memory."""
_DEEPEST = 32
"""Levels of tables and lists that are read, as what writes or copies them recurses into each."""


def read_json(text: str) -> Any:
    """Return the plain values in *text*.

    Raises:
        DocumentError: If it is not JSON, has a number that is not finite, or has far more values or
            levels than any document needs.
    """
    if sum(map(text.count, ",[{")) >= _MOST_VALUES:
        raise DocumentError(f"is JSON of more than {_MOST_VALUES} values")
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise DocumentError(f"is not JSON: {exc}") from exc
    level: list[Any] = [table]
    for _ in range(_DEEPEST):
        level = [inner for value in level for inner in _checked(value)]
    if level:
        raise DocumentError(f"is JSON of more than {_DEEPEST} levels")
    return table


def _checked(value: Any) -> Iterator[Any]:
    """Yield the keys and values directly in *value*, of which a number must be finite."""
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value
    elif isinstance(value, float) and not math.isfinite(value):
        raise DocumentError("is not JSON: a number in it is not finite")
