"""Tests of the model file: what loads, and which files are no model."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeasd.common.errors import ModelError
from edgeasd.detect.model.document import ModelDocument
from edgeasd.detect.model.network import Model
from edgeasd.detect.scoring import clip_score
from tests.detect.models import (
    TinyNetwork,
    faulty_sound,
    load_model,
    make_model,
    normal_sound,
    offline_windows,
    with_metadata,
)
from tests.detect.small_models import LOG_ODDS, NEAREST, document_of, graph_of, refusal


@pytest.mark.parametrize("content", [NEAREST, LOG_ODDS], ids=["nearest", "log_odds"])
def test_model_document_round_trips(content: bytes) -> None:
    """What a model file says of itself, written again, is the same."""
    document = Model(content, "tiny").document

    assert ModelDocument.from_json(document.to_json()) == document
    assert json.loads(document.to_json()) == document_of(content)


def test_model_run_equals_the_network_in_numpy(tmp_path: Path) -> None:
    """ONNX Runtime gives what the network's formula gives, to float32 rounding."""
    model = load_model(make_model(tmp_path / "a.onnx", n_sections=3, method="log_odds", seed=4))
    network = TinyNetwork.seeded(128, 8, 3, seed=4)

    for window in offline_windows(faulty_sound(40_000), model.document):
        actual = model.run(window)
        expected = network.run(window)
        assert actual.logits is not None
        assert expected.logits is not None
        np.testing.assert_allclose(actual.embedding, expected.embedding, atol=1e-5)
        np.testing.assert_allclose(actual.logits, expected.logits, atol=1e-5)


def test_model_nearest_asks_for_the_embedding_alone() -> None:
    """A model that scores by distance has no logits in its output, even if the graph has."""
    model = Model(NEAREST, "tiny")

    output = model.run(np.zeros((8, 8), np.float32))

    assert output.embedding.shape == (4,)
    assert output.logits is None


def test_model_nearest_without_logits_in_the_graph_loads() -> None:
    """A graph without a classifier is enough to score by distance."""
    graph = graph_of(NEAREST)
    del graph.graph.output[1]

    model = Model(graph.SerializeToString(), "tiny")

    assert model.run(np.zeros((8, 8), np.float32)).embedding.shape == (4,)


def test_model_batch_of_one_loads() -> None:
    """A graph whose batch is fixed to one window is one that can be fed."""
    graph = graph_of(NEAREST)
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1

    assert Model(graph.SerializeToString(), "tiny").document == Model(NEAREST, "tiny").document


def test_model_shared_between_threads_gives_the_same_output() -> None:
    """Threads that share one model get what one thread alone gets, bit for bit."""
    model = Model(LOG_ODDS, "tiny")
    windows = np.random.default_rng(0).normal(-30, 20, (200, 8, 8)).astype(np.float32)
    alone = [model.run(window) for window in windows]

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: [model.run(window) for window in windows], range(8)))

    for run in runs:
        for actual, expected in zip(run, alone, strict=True):
            np.testing.assert_array_equal(actual.embedding, expected.embedding)
            np.testing.assert_array_equal(actual.logits, expected.logits)


@pytest.mark.parametrize("method", ["nearest", "log_odds"])
def test_make_model_tells_a_fault_from_normal_sound(tmp_path: Path, method: str) -> None:
    """The models that other tests rest on find the fault, and none in normal sound."""
    model = load_model(make_model(tmp_path / "a.onnx", n_sections=2, method=method))
    section = model.document.sections[0]

    scores = [
        clip_score(
            model.scoring(0),
            [model.run(window) for window in offline_windows(sound, model.document)],
        )
        for sound in (normal_sound(160_000, seed=7), faulty_sound(160_000, seed=7))
    ]

    assert scores[0] < section.clear_threshold < section.threshold < scores[1]


# --- sections ------------------------------------------------------------------------------------


def test_section_index_names_a_section() -> None:
    """A section's name gives its place among the logits."""
    model = Model(LOG_ODDS, "tiny")

    assert model.section_index("00") == 0
    assert model.section_index("01") == 1


def test_section_index_empty_is_the_only_section() -> None:
    """A model of one section needs no choice."""
    assert Model(NEAREST, "tiny").section_index("") == 0


@pytest.mark.parametrize("name", ["", "02", "0"])
def test_section_index_open_or_unknown_is_refused(name: str) -> None:
    """With several sections one must be chosen that is there."""
    with pytest.raises(ModelError) as caught:
        Model(LOG_ODDS, "tiny.onnx").section_index(name)

    assert str(caught.value) == f"tiny.onnx: section={name!r} must be one of 00, 01"


# --- files that are no model ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "there is no graph in it"),
        (b"\0" * 10, "there is no graph in it"),
        (b"hello world\n" * 100, "it is damaged at byte 3"),
        (NEAREST[: len(NEAREST) // 2], "it is damaged at byte 5"),
        (b"PK\3\4" + NEAREST, "it is damaged at byte "),
        (NEAREST.replace(b"MatMul", b"MatMal"), "[ONNXRuntimeError] : "),
    ],
    ids=["empty", "zeros", "text", "half a model", "zip", "unknown operator"],
)
def test_model_not_onnx_is_refused(content: bytes, reason: str) -> None:
    """Bytes that are not a whole ONNX model are refused in one line."""
    message = refusal(content)

    assert message.startswith(f"is not an ONNX model that can be run ({reason}")
    assert "\n" not in message


def test_model_of_someone_else_is_refused() -> None:
    """ONNX without our metadata is told apart from a broken file."""
    content = with_metadata(graph_of(NEAREST), "{}", key="other")

    assert refusal(content) == (
        "is ONNX but has no metadata 'edgeasd'; make a model file with 'python -m train export'"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "metadata 'edgeasd' is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("nul", "metadata 'edgeasd' is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "metadata 'edgeasd' must be a table"),
        ("3", "metadata 'edgeasd' must be a table"),
        ("null", "metadata 'edgeasd' must be a table"),
        ("{}", "schema=None must be 'edgeasd.model/1'"),
        ('{"schema": "edgeasd.model/2"}', "schema='edgeasd.model/2' must be 'edgeasd.model/1'"),
    ],
)  # fmt: skip
def test_model_metadata_of_another_form_is_refused(text: str, message: str) -> None:
    """Metadata that is not JSON, no table, or of another version is refused."""
    assert refusal(with_metadata(graph_of(NEAREST), text)) == message


def test_model_metadata_nested_without_end_is_refused() -> None:
    """JSON nested deeper than Python reads is refused like any other that is broken."""
    message = refusal(with_metadata(graph_of(NEAREST), "[" * 100_000))

    assert message.startswith("metadata 'edgeasd' is not JSON: ")


def test_model_metadata_not_utf8_is_refused() -> None:
    """Metadata whose bytes are no text is refused, not let out as a UnicodeDecodeError."""
    content = NEAREST.replace(b'"machine_type": "fan"', b'"machine_type": "\xff\xfe "')

    message = refusal(content)

    assert message.startswith("'utf-8' codec can't decode byte 0xff in position ")


# --- damage --------------------------------------------------------------------------------------


def load_or_refuse(content: bytes) -> None:
    """Load the model file *content* and use it, or see it refused with a ModelError."""
    try:
        model = Model(content, "tiny.onnx")
    except ModelError:
        return
    shape = model.document.window.n_frames, model.document.features.n_mels
    output = model.run(np.zeros(shape, np.float32))
    for index in range(len(model.document.sections)):
        clip_score(model.scoring(index), [output])


@settings(max_examples=200)
@given(st.integers(0, len(NEAREST) - 1))
def test_model_cut_off_is_refused_or_loads(length: int) -> None:
    """A model file that was not written to its end is refused, or was whole already."""
    load_or_refuse(NEAREST[:length])


@settings(max_examples=200)
@given(st.lists(st.integers(0, 8 * len(NEAREST) - 1), min_size=1, max_size=3))
def test_model_with_flipped_bits_is_refused_or_loads(places: list[int]) -> None:
    """Flipped bits end in a refusal or in other numbers, never in another exception."""
    content = bytearray(NEAREST)
    for place in places:
        content[place // 8] ^= 1 << place % 8

    load_or_refuse(bytes(content))
