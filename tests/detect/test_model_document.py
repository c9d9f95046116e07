"""Tests of the document in a model file: what is refused, with which words, and its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest

from edgeasd.common.documents.reading import DocumentError
from edgeasd.detect.model.document import ModelDocument
from edgeasd.detect.model.matrix import Matrix
from tests.detect.models import make_document
from tests.detect.small_models import (
    LOG_ODDS,
    MAHALANOBIS,
    NEAREST,
    RECONSTRUCTION,
    Change,
    changed,
    document_of,
    refusal,
    remover,
    setter,
    small_content,
)
from tools.schemas import model_schema

VALIDATOR = jsonschema.Draft202012Validator(model_schema())

GEOMETRY_RISES = (
    "features.fmin={} and fmax={} must rise by 1 or more from 0 to at most half of "
    "sample_rate=16000"
)
MEDIAN_RULE = "window.median_frames={} must be one less than a power of two"
NO_SOFTMAX = (
    "scoring.method='log_odds' must be a distance for a model of one section, "
    "as a softmax over one class is always 1"
)
NO_DISTANCE = "distances must be at least one for scoring.method='mahalanobis'"
WHITENING_OF_5 = Matrix(np.eye(5, dtype=np.float32)).to_table()
NAN_REFERENCES = Matrix(np.full((2, 4), np.nan, np.float32)).to_table()["float32"]
ZERO_REFERENCES = Matrix(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)).to_table()

# The base, the change, the message, and whether JSON Schema can express the rule.
WRONG_DOCUMENTS: list[tuple[bytes, Change, str, bool]] = [
    (NEAREST, remover("id"), "id is missing", True),
    (NEAREST, remover("features"), "features is missing", True),
    (NEAREST, remover("window"), "window is missing", True),
    (NEAREST, remover("scoring"), "scoring is missing", True),
    (NEAREST, remover("sections"), "sections is missing", True),
    (LOG_ODDS, remover("scoring", "method"), "scoring.method is missing", True),
    (NEAREST, remover("scoring", "clip_windows"), "scoring.clip_windows is missing", True),
    (NEAREST, remover("features", "fmax"), "features.fmax is missing", True),
    (NEAREST, remover("window", "hop_frames"), "window.hop_frames is missing", True),
    (NEAREST, remover("sections", 0, "threshold"), "sections[0].threshold is missing", True),
    (NEAREST, remover("sections", 0, "references"), "sections[0].references is missing", True),
    (NEAREST, remover("schema"), "schema=None must be 'edgeasd.model/1'", True),
    (NEAREST, setter("schema", to=1), "schema=1 must be 'edgeasd.model/1'", True),
    (NEAREST, setter("versoin", to="1"), "unknown key 'versoin'; did you mean 'version'?", True),
    (NEAREST, setter("features", "n_ftt", to=1),
     "unknown key 'features.n_ftt'; did you mean 'n_fft'?", True),
    (NEAREST, setter("id", to=3), "id=3 must be a string", True),
    (NEAREST, setter("training", to=[]), "training=[] must be a table", True),
    (NEAREST, setter("features", to=[]), "features must be a table", True),
    (NEAREST, setter("features", "n_fft", to="64"), "features.n_fft='64' must be a whole number",
     True),
    (NEAREST, setter("features", "n_fft", to=64.5), "features.n_fft=64.5 must be a whole number",
     True),
    (NEAREST, setter("features", "n_fft", to=True), "features.n_fft=True must be a whole number",
     True),
    (NEAREST, setter("features", "n_fft", to=0), "features.n_fft=0 must be from 2 to 65536",
     True),
    (NEAREST, setter("features", "sample_rate", to=10**7),
     "features.sample_rate=10000000 must be from 1000 to 400000", True),
    (NEAREST, setter("features", "n_mels", to=-1), "features.n_mels=-1 must be from 1 to 1024",
     True),
    (NEAREST, setter("features", "floor", to=0), "features.floor=0 must be from 1e-30 to 1", True),
    (NEAREST, setter("features", "floor", to=None), "features.floor=None must be a number", True),
    (NEAREST, setter("features", "fmin", to=-1), "features.fmin=-1 must be at least 0", True),
    (NEAREST, setter("features", "fmin", to=8000), GEOMETRY_RISES.format(8000, 8000), False),
    (NEAREST, setter("features", "fmax", to=8001), GEOMETRY_RISES.format(0, 8001), False),
    (NEAREST, setter("features", "fmax", to=0.99), "features.fmax=0.99 must be at least 1", True),
    (NEAREST, setter("features", "hop_length", to=65),
     "features.hop_length and window.hop_frames must leave nothing out", False),
    (NEAREST, setter("window", "hop_frames", to=9),
     "features.hop_length and window.hop_frames must leave nothing out", False),
    (NEAREST, setter("window", "hop_frames", to=0), "window.hop_frames=0 must be from 1 to 16384",
     True),
    (NEAREST, setter("window", "median_frames", to=4), MEDIAN_RULE.format(4), True),
    (NEAREST, setter("window", "median_frames", to=5), MEDIAN_RULE.format(5), True),
    (NEAREST, setter("window", "median_frames", to=31),
     "window.median_frames=31 must be less than twice window.n_frames=8", False),
    (NEAREST, setter("scoring", "method", to="softmax"),
     "scoring.method='softmax' must be one of log_odds, nearest, mahalanobis, "
     "reconstruction", True),
    (NEAREST, setter("scoring", "method", to="log_odds"), NO_SOFTMAX, True),
    (NEAREST, setter("scoring", "n_neighbours", to=0),
     "scoring.n_neighbours=0 must be from 1 to 4096", True),
    (NEAREST, setter("scoring", "clip_windows", to=10_001),
     "scoring.clip_windows=10001 must be from 1 to 10000", True),
    (NEAREST, setter("sections", to=[]), "sections=[] must be 1 to 256 sections", True),
    (NEAREST, setter("sections", to={}), "sections must be a list", True),
    (NEAREST, setter("sections", 0, to=3), "sections[0] must be a table", True),
    (NEAREST, setter("sections", 0, "name", to=0), "sections[0].name=0 must be a string", True),
    (LOG_ODDS, setter("sections", 1, "name", to="00"), "sections must have names of their own",
     False),
    (NEAREST, setter("sections", 0, "threshold", to="1"),
     "sections[0].threshold='1' must be a number", True),
    (NEAREST, setter("sections", 0, "references", "shape", to=[3]),
     "sections[0].references.shape=[3] must be two numbers from 1 to 4096", True),
    (NEAREST, setter("sections", 0, "references", "shape", to=[0, 4]),
     "sections[0].references.shape=[0, 4] must be two numbers from 1 to 4096", True),
    (NEAREST, setter("sections", 0, "references", "shape", 0, to="1"),
     "sections[0].references.shape[0]='1' must be a whole number", True),
    (NEAREST, setter("sections", 0, "references", "shape", 0, to=999),
     "sections[0].references.float32 must be base64 of (999, 4) float32 values", False),
    (NEAREST, setter("sections", 0, "references", "shape", 0, to=10**30),
     f"sections[0].references.shape=[{10**30}, 4] must be two numbers from 1 to 4096", True),
    (NEAREST, setter("sections", 0, "references", to={"shape": [2, 4], "float32": "?"}),
     "sections[0].references.float32 must be base64 of (2, 4) float32 values", True),
    (NEAREST, setter("sections", 0, "references", to={"shape": [2, 4], "float32": "é"}),
     "sections[0].references.float32 must be base64 of (2, 4) float32 values", True),
    (NEAREST, setter("sections", 0, "references", to={"shape": [2, 4], "float32": NAN_REFERENCES}),
     "sections[0].references.float32 must hold finite numbers only", False),
    (NEAREST, setter("sections", 0, "references", to=ZERO_REFERENCES),
     "sections[0].references must not hold a zero vector", False),
    (MAHALANOBIS, remover("sections", 0, "references"), "sections[0].references is missing", True),
    (MAHALANOBIS, remover("distances"), NO_DISTANCE, True),
    (MAHALANOBIS, setter("distances", to=[]), NO_DISTANCE, True),
    (NEAREST, setter("scoring", "method", to="mahalanobis"), NO_DISTANCE, True),
    (MAHALANOBIS, setter("distances", to=None), "distances must be a list", True),
    (MAHALANOBIS, remover("distances", 0, "weight"), "distances[0].weight is missing", True),
    (MAHALANOBIS, remover("distances", 0, "whitening"), "distances[0].whitening is missing", True),
    (MAHALANOBIS, setter("distances", 0, "weight", to=0),
     "distances[0].weight=0 must be from 1e-06 to 1e+06", True),
    (MAHALANOBIS, setter("distances", 0, "whitening", "shape", to=[4]),
     "distances[0].whitening.shape=[4] must be two numbers from 1 to 4096", True),
    (MAHALANOBIS, setter("distances", 0, "whitening", to=WHITENING_OF_5),
     "distances[0].whitening.shape=[5, 5] must have 4 columns, as many as the graph's embedding",
     False),
    (MAHALANOBIS, setter("distances", 0, "whitening", "shape", 0, to=999),
     "distances[0].whitening.float32 must be base64 of (999, 4) float32 values", False),
    (NEAREST, setter("scoring", "method", to="reconstruction"),
     "graph output embedding has 4 values and must have 1, the error, for "
     "scoring.method='reconstruction'", False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "change", "message"), [case[:3] for case in WRONG_DOCUMENTS],
    ids=[case[2] for case in WRONG_DOCUMENTS],
)  # fmt: skip
def test_model_wrong_document_is_refused(content: bytes, change: Change, message: str) -> None:
    """Every mistake in the document is told with the name of the field."""
    assert refusal(changed(content, change)) == message


def test_model_crossed_thresholds_are_refused() -> None:
    """An alarm must not end above the score at which it starts."""

    def change(document: dict[str, Any]) -> None:
        document["sections"][0].update(threshold=1.0, clear_threshold=1.5)

    assert refusal(changed(NEAREST, change)) == (
        "sections[0].clear_threshold=1.5 must be at most threshold=1.0"
    )


# --- the schema ----------------------------------------------------------------------------------


def test_schema_is_valid() -> None:
    """The schema is itself valid, by draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(model_schema())


GOOD_DOCUMENTS: list[Callable[[], dict[str, Any]]] = [
    lambda: document_of(NEAREST),
    lambda: document_of(LOG_ODDS),
    lambda: document_of(MAHALANOBIS),
    lambda: document_of(RECONSTRUCTION),
    lambda: document_of(small_content(3, "nearest")),
    lambda: {**document_of(NEAREST), "training": {"seed": 1, "metrics": {"auc": [0.5, None]}}},
    lambda: {key: value for key, value in document_of(NEAREST).items() if key != "training"},
]


@pytest.mark.parametrize("make", GOOD_DOCUMENTS)
def test_schema_accepts_what_the_code_accepts(make: Callable[[], dict[str, Any]]) -> None:
    """Documents that the code accepts are valid by the schema."""
    document = make()

    ModelDocument.from_json(json.dumps(document))
    VALIDATOR.validate(document)


@pytest.mark.parametrize(
    ("content", "change", "expressible"),
    [(case[0], case[1], case[3]) for case in WRONG_DOCUMENTS],
    ids=[case[2] for case in WRONG_DOCUMENTS],
)
def test_schema_refuses_what_the_code_refuses(
    content: bytes, change: Change, *, expressible: bool
) -> None:
    """A document that the code refuses is invalid by the schema wherever it can say the rule."""
    document = document_of(changed(content, change))

    assert VALIDATOR.is_valid(document) == (not expressible)


def test_document_check_direct_refuses_what_the_file_would() -> None:
    """A document made in code is checked by the same rules as one that is read."""
    document = make_document(n_sections=1, method="log_odds")

    with pytest.raises(DocumentError) as caught:
        document.check()

    assert str(caught.value) == NO_SOFTMAX
    with pytest.raises(DocumentError, match=r"^sections\[0\].references is missing$"):
        replace(document, scoring=replace(document.scoring, method="nearest")).check()
