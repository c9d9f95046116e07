"""The JSON schemas of the payloads, from their types; needs the source of this package.

Only ``make generate`` and the tests import this module, and with it pydantic.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ConfigDict, TypeAdapter, with_config
from pydantic.json_schema import GenerateJsonSchema

from edgeasd.publish.payloads.event import EventPayload
from edgeasd.publish.payloads.health import HealthPayload
from edgeasd.publish.payloads.score import ScorePayload
from edgeasd.publish.payloads.state import StatePayload

_TYPES: dict[str, Any] = {
    "event": EventPayload,
    "state": StatePayload,
    "score": ScorePayload,
    "health": HealthPayload,
}
_ADDRESS = "https://github.com/edgeasd/edgeasd/raw/main/deploy/schemas"
_CONFIG = ConfigDict(
    extra="forbid",
    json_schema_serialization_defaults_required=True,
    use_attribute_docstrings=True,
)


class _Generator(GenerateJsonSchema):
    """Gives no title to a field, which would only repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # as overridden
        return False


def payload_schema(kind: str) -> str:
    """Return the JSON schema of the payload *kind*: event, state, score or health."""
    adapter = TypeAdapter(with_config(_CONFIG)(_TYPES[kind]))
    schema = adapter.json_schema(mode="serialization", schema_generator=_Generator)
    heading = {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"{_ADDRESS}/{kind}.schema.json",
        "title": kind.capitalize(),
        "description": "",
    }
    whole = _described({**heading, **schema, "title": heading["title"]})
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _described(schema: Any) -> Any:
    """Return *schema* with each description in one line."""
    if isinstance(schema, list):
        return [_described(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: " ".join(value.split())
        if key == "description" and isinstance(value, str)
        else _described(value)
        for key, value in schema.items()
    }
