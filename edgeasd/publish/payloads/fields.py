"""Fields that several payloads have, and the rules for their values.

The text below a field is its description in the schemas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from edgeasd.common.documents.reading import Rule, at_least, rule

Payload: TypeAlias = Mapping[str, Any]


def like(pattern: str) -> Rule:
    """Return the rule of a string in which *pattern* is found."""
    return rule(lambda value: re.search(pattern, value) is not None, pattern, pattern=pattern)


class SchemaOf:
    """Gives a value the schema of another type; metadata of `Annotated`.

    Args:
        part: The type whose schema it is.
    """

    def __init__(self, part: object) -> None:
        self._part = part

    def __get_pydantic_core_schema__(self, _source: Any, handler: Any) -> Any:
        """Return what pydantic makes of the other type."""
        return handler.generate_schema(self._part)


_NAME = "[A-Za-z0-9_.-]{1,64}"
_BOOT_ID = "[0-9a-f]{8}"

Name: TypeAlias = Annotated[str, like(f"^{_NAME}$")]
BootId: TypeAlias = Annotated[str, like(f"^{_BOOT_ID}$")]
EventId: TypeAlias = Annotated[str, like(f"^{_NAME}-{_BOOT_ID}-[0-9]{{6,}}$")]
Time: TypeAlias = Annotated[str, like(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
Count: TypeAlias = Annotated[int, at_least(0)]
Positive: TypeAlias = Annotated[int, at_least(1)]
Duration: TypeAlias = Annotated[float, at_least(0)]
FloatOrNull: TypeAlias = Annotated[float, Rule(lambda _: "", keywords={"type": ["number", "null"]})]
"""A float in the daemon; null in JSON where it is infinite or not a number."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that scores."""

    id: str
    """Name of the model."""
    sha256: Annotated[str, like("^[0-9a-f]{64}$")]
    """SHA-256 of the model file, hexadecimal."""
    version: str
    """Version of the model."""
