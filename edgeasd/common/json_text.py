"""JSON that somebody else wrote, to plain values, within bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from edgeasd.common.documents import DocumentError

_MOST_VALUES = 1_000_000
_DEEPEST = 32
"""Levels of tables and lists; whatever writes or copies the values calls itself for each."""


def read_json(text: str) -> Any:
    """Return the plain values in *text*.

    Raises:
        DocumentError: If it is not JSON, has a number that is not finite, or is beyond all use in
            number or depth of its values.
    """
    # A few bytes of text a value become a hundred in memory.
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
    """Yield what is directly in *value*; what holds nothing is checked by itself."""
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value
    elif isinstance(value, float) and not math.isfinite(value):
        raise DocumentError("is not JSON: a number in it is not finite")
