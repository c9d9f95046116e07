"""Fields that several payloads have, and the rules for their values.

The text below a field is its description in the schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

Payload: TypeAlias = Mapping[str, Any]


class Rule:
    """Rules for a value, in the keywords of JSON Schema; metadata of `Annotated`.

    `pydantic.Field` says the same, but the daemon would have to import pydantic for it, which takes
    a tenth of a second.  Only `schemas` does.

    Args:
        keywords: For example ``minimum=0``.
    """

    def __init__(self, **keywords: object) -> None:
        self._keywords = keywords

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Return what pydantic says of the annotated type, with these rules."""
        return {**handler(schema), **self._keywords}


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

Name: TypeAlias = Annotated[str, Rule(pattern=f"^{_NAME}$")]
BootId: TypeAlias = Annotated[str, Rule(pattern=f"^{_BOOT_ID}$")]
EventId: TypeAlias = Annotated[str, Rule(pattern=f"^{_NAME}-{_BOOT_ID}-[0-9]{{6,}}$")]
Time: TypeAlias = Annotated[str, Rule(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
Count: TypeAlias = Annotated[int, Rule(minimum=0)]
Positive: TypeAlias = Annotated[int, Rule(minimum=1)]
Duration: TypeAlias = Annotated[float, Rule(minimum=0)]
FloatOrNull: TypeAlias = Annotated[float, Rule(type=["number", "null"])]
"""A float in the daemon; null in JSON where it is infinite or not a number."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model that scores."""

    id: str
    """Name of the model."""
    sha256: Annotated[str, Rule(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the model file, hexadecimal."""
    version: str
    """Version of the model."""
