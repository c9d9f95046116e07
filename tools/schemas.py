"""The JSON schemas of model document and calibration file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeasd.common.documents.reading import json_schema
from edgeasd.detect.model.document import BY_DISTANCE, COMPLETE, ModelDocument
from edgeasd.models.calibration_file import CalibrationDocument


def model_schema() -> dict[str, Any]:
    """Return the schema of the document in a model file.

    To the rules of the fields it adds those between them that JSON schema can express; see
    `ModelDocument.from_json`.
    """
    schema = json_schema(ModelDocument)
    for name in COMPLETE:
        table = schema["$defs"][schema["properties"][name]["$ref"].rpartition("/")[2]]
        table["required"] = list(table["properties"])
        for key in table["properties"].values():
            key.pop("default", None)
    schema["required"].append("schema")
    with_references = {
        "items": {"required": ["references"], "properties": {"references": {"type": "object"}}}
    }
    return {
        **schema,
        "$id": schema["properties"]["schema"].pop("default"),
        "title": "edgeasd model",
        "allOf": [
            _if_method(["log_odds"], sections={"minItems": 2}),
            _if_method(BY_DISTANCE, sections=with_references),
            _if_method(["mahalanobis"], distances={"minItems": 1}),
        ],
    }


def _if_method(methods: Sequence[str], **properties: Any) -> dict[str, Any]:
    """Return what is asked of these *properties* with one of the scoring *methods*."""
    method = {"properties": {"scoring": {"properties": {"method": {"enum": list(methods)}}}}}
    return {"if": method, "then": {"required": list(properties), "properties": properties}}


def calibration_schema() -> dict[str, Any]:
    """Return the schema of a calibration file."""
    schema = json_schema(CalibrationDocument)
    return {
        **schema,
        "$id": schema["properties"]["schema"]["default"],
        "title": "edgeasd calibration file",
    }
