"""Tests of the files that are made from the code, and of what they promise."""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema
import pytest

from tests.conftest import CHECKOUT
from tests.test_example import UNCOMMENTED
from tools.generate import FILES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MACHINE: dict[str, Any] = {"name": "a", "model": "a.onnx"}


@pytest.mark.parametrize("name", FILES)
def test_generated_file_is_up_to_date(name: str) -> None:
    """What stands in the repository is what the code gives."""
    content = (CHECKOUT / name).read_text(encoding="utf-8")

    assert content == FILES[name](), f"{name} is stale; run make generate"


def _config_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(FILES["deploy/schemas/config.schema.json"]())
    return schema


def test_config_schema_accepts_the_example() -> None:
    """The JSON schema knows every key of the example."""
    jsonschema.Draft202012Validator.check_schema(_config_schema())
    jsonschema.validate(tomllib.loads(UNCOMMENTED), _config_schema())


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"machine": []},
        {"machine": [{"name": "a"}]},
        {"machine": [MACHINE | {"modle": "a"}]},
        {"machine": [MACHINE | {"name": ".."}]},
        {"machine": [MACHINE | {"model": ""}]},
        {"machine": [MACHINE | {"file": {"path": "a.wav"}, "simulator": {}}]},
        {"machine": [MACHINE | {"alarm": {"raise_after": 0}}]},
        {"machine": [MACHINE], "log_level": "loud"},
        {"machine": [MACHINE], "mqtt": {"port": 65_536}},
        {"machine": [MACHINE], "mqtt": {"ca_file": "ca.pem", "key_file": "node.key"}},
    ],
    ids=str,
)
def test_config_schema_refuses_what_the_daemon_refuses(document: dict[str, Any]) -> None:
    """An editor that knows the schema marks the mistakes that can be told by it."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, _config_schema())


@pytest.mark.parametrize("kind", ["model", "calibration"])
def test_schema_describes_every_key(kind: str) -> None:
    """Whoever writes or reads such a file learns what each key means."""
    schema = json.loads(FILES[f"deploy/schemas/{kind}.schema.json"]())
    tables = [schema, *schema["$defs"].values()]

    assert len(tables) > 1
    for table in tables:
        assert table["description"]
        for key in table["properties"].values():
            assert key["description"]
