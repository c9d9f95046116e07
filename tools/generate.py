"""``python -m tools.generate``: write the files that are made from the types of the code.

`FILES` names each of them; a test compares them with what their functions return.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeasd.common.config.keys import Config
from edgeasd.common.documents.reading import json_schema
from edgeasd.publish.payloads.event import EventPayload
from edgeasd.publish.payloads.health import HealthPayload
from edgeasd.publish.payloads.score import ScorePayload
from edgeasd.publish.payloads.state import StatePayload
from tools.configuration import example, page
from tools.schemas import calibration_schema, model_schema

CHECKOUT = Path(__file__).parents[1]


def main() -> None:
    """Write each file whose content has changed."""
    for name, content in FILES.items():
        path = CHECKOUT / name
        if not path.exists() or path.read_text(encoding="utf-8") != content():
            path.write_text(content(), encoding="utf-8")
            print(f"wrote {name}")  # noqa: T201 - what make shows


def _as_text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _config_schema() -> str:
    return _as_text(json_schema(Config) | {"title": "edgeasd configuration"})


def _payload_schema(cls: type, kind: str) -> str:
    schema = json_schema(cls)
    address = f"https://github.com/edgeasd/edgeasd/raw/main/deploy/schemas/{kind}.schema.json"
    heading = {"$schema": schema["$schema"], "$id": address}
    rest = {key: value for key, value in schema.items() if value != {}}  # perhaps no $defs
    return _as_text(heading | rest | {"title": kind.capitalize()})


FILES: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "deploy/edgeasd.example.toml": example,
        "deploy/schemas/calibration.schema.json": lambda: _as_text(calibration_schema()),
        "deploy/schemas/config.schema.json": _config_schema,
        "deploy/schemas/event.schema.json": partial(_payload_schema, EventPayload, "event"),
        "deploy/schemas/health.schema.json": partial(_payload_schema, HealthPayload, "health"),
        "deploy/schemas/model.schema.json": lambda: _as_text(model_schema()),
        "deploy/schemas/score.schema.json": partial(_payload_schema, ScorePayload, "score"),
        "deploy/schemas/state.schema.json": partial(_payload_schema, StatePayload, "state"),
        "docs/configuration.md": page,
    }
)
"""The functions that return the content of the generated files."""

if __name__ == "__main__":
    main()
