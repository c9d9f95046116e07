"""Tests of the model file: what loads, what is refused, and with which words."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.model import (
    EMBEDDING,
    INPUT,
    LOGITS,
    METADATA_KEY,
    SCHEMA,
    Model,
    ModelDocument,
    References,
    load_model,
)
from edgeasd.detect.scoring import clip_score
from edgeasd.detect.windows import WindowSpec
from edgeasd.document import DocumentError
from edgeasd.errors import ModelError
from tests.conftest import CHECKOUT
from tests.detect.models import (
    TinyNetwork,
    faulty_sound,
    make_content,
    make_document,
    make_model,
    normal_sound,
    offline_windows,
    with_metadata,
    wrap_graph,
)

SMALL_FEATURES = FeatureSpec(n_fft=64, hop_length=32, n_mels=8)
SMALL_WINDOW = WindowSpec(n_frames=8, hop_frames=4, median_frames=3)
SCHEMA_DOCUMENT = json.loads(
    (CHECKOUT / "deploy" / "schemas" / "model.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA_DOCUMENT)

Change = Callable[[dict[str, Any]], object]


def small_content(n_sections: int = 2, method: str = "log_odds") -> bytes:
    """Return a model file of a few kilobytes."""
    document = make_document(
        n_sections=n_sections, method=method, features=SMALL_FEATURES, window=SMALL_WINDOW
    )
    return make_content(document, n_dims=4, normal=normal_sound(2000))


NEAREST = small_content(1, "nearest")
LOG_ODDS = small_content(2, "log_odds")


def graph_of(content: bytes) -> onnx.ModelProto:
    """Return the graph in the model file *content*."""
    graph = onnx.ModelProto()
    graph.ParseFromString(content)
    return graph


def document_of(content: bytes) -> dict[str, Any]:
    """Return the document in the model file *content* as plain values."""
    properties = {item.key: item.value for item in graph_of(content).metadata_props}
    document: dict[str, Any] = json.loads(properties[METADATA_KEY])
    return document


def changed(content: bytes, change: Change) -> bytes:
    """Return the model file *content* with its document changed in place by *change*."""
    document = document_of(content)
    change(document)
    return with_metadata(graph_of(content), json.dumps(document))


def refusal(content: bytes) -> str:
    """Return the message with which the model file *content* is refused, without its origin."""
    with pytest.raises(ModelError) as caught:
        Model(content, "tiny.onnx")
    message = str(caught.value)
    assert message.startswith("tiny.onnx: ")
    return message.removeprefix("tiny.onnx: ")


def setter(*path: str | int, to: Any) -> Change:
    """Return the change that sets the value at *path*."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


def remover(*path: str | int) -> Change:
    """Return the change that takes the value at *path* away."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


# --- what loads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [NEAREST, LOG_ODDS], ids=["nearest", "log_odds"])
def test_model_document_round_trips(content: bytes) -> None:
    """What a model file says of itself, written again, is the same."""
    document = Model(content, "tiny").document

    assert ModelDocument.from_json(document.to_json()) == document
    assert json.loads(document.to_json()) == document_of(content)


def test_load_model_gives_the_model_of_the_file(tmp_path: Path) -> None:
    """A file gives its document and the digest of its bytes."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(NEAREST)

    model = load_model(path)

    assert model.document == Model(NEAREST, "tiny").document
    assert model.sha256 == Model(NEAREST, "elsewhere").sha256
    assert len(model.sha256) == 64


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
            model.scoring(0), [model.run(window) for window in offline_windows(sound, model.document)]
        )
        for sound in (normal_sound(160_000, seed=7), faulty_sound(160_000, seed=7))
    ]

    assert scores[0] < section.clear_threshold < section.threshold < scores[1]


def test_references_round_trip_keeps_every_bit() -> None:
    """References come back from base64 as they went in, even if they were no float32 in C order."""
    embeddings = np.asfortranarray(np.random.default_rng(0).standard_normal((5, 3)))

    references = References.of(embeddings.astype(np.float32))

    assert references.shape == (5, 3)
    np.testing.assert_array_equal(references.embeddings(), embeddings.astype(np.float32))


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


def test_load_model_missing_file_is_refused(tmp_path: Path) -> None:
    """Without a file, the message says which one and how to make one."""
    path = tmp_path / "tiny.onnx"

    with pytest.raises(ModelError) as caught:
        load_model(path)

    assert str(caught.value) == (
        f"{path}: cannot be read (No such file or directory); "
        "'python -m train export' makes a model file"
    )


def test_load_model_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no model file."""
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)

    assert str(caught.value) == (
        f"{tmp_path}: cannot be read (Is a directory); 'python -m train export' makes a model file"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 10, b"hello world\n" * 100, NEAREST[: len(NEAREST) // 2], b"PK\3\4" + NEAREST],
    ids=["empty", "zeros", "text", "half a model", "zip"],
)
def test_model_not_onnx_is_refused(content: bytes) -> None:
    """Bytes that are not a whole ONNX model are refused in one line."""
    message = refusal(content)

    assert message.startswith("is not an ONNX model that can be run ([ONNXRuntimeError] : ")
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
        ("{", "metadata 'edgeasd' is not JSON: Expecting property name enclosed in double quotes: "
         "line 1 column 2 (char 1)"),
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

    assert message.startswith("metadata 'edgeasd' is not JSON: maximum recursion depth exceeded")


def test_model_metadata_not_utf8_is_refused() -> None:
    """Metadata whose bytes are no text is refused, not let out as a UnicodeDecodeError."""
    content = NEAREST.replace(b'"machine_type": "fan"', b'"machine_type": "\xff\xfe "')

    message = refusal(content)

    assert message.startswith("'utf-8' codec can't decode byte 0xff in position ")


# --- documents that are wrong --------------------------------------------------------------------

GEOMETRY_RISES = (
    "features.fmin={} and fmax={} must rise from 0 to at most half of sample_rate=16000"
)
MEDIAN_RULE = "window.median_frames={} must be one less than a power of two"
NO_SOFTMAX = (
    "scoring.method='log_odds' must be 'nearest' for a model of one section, "
    "as a softmax over one class is always 1"
)
NAN_REFERENCES = References.of(np.full((2, 4), np.nan, np.float32)).float32
ZERO_REFERENCES = asdict(References.of(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)))

# The base, the change, the message, and whether JSON Schema can express the rule.
WRONG_DOCUMENTS: list[tuple[bytes, Change, str, bool]] = [
    (NEAREST, remover("id"), "id is missing", True),
    (NEAREST, remover("features"), "features is missing", True),
    (NEAREST, remover("window"), "window is missing", True),
    (NEAREST, remover("scoring"), "scoring is missing", True),
    (NEAREST, remover("sections"), "sections is missing", True),
    (NEAREST, remover("scoring", "method"), "scoring.method is missing", True),
    (NEAREST, remover("sections", 0, "threshold"), "sections[0].threshold is missing", True),
    (NEAREST, remover("sections", 0, "references"), "sections[0].references is missing", True),
    (NEAREST, remover("schema"), "schema=None must be 'edgeasd.model/1'", True),
    (NEAREST, setter("schema", to=1), "schema=1 must be 'edgeasd.model/1'", True),
    (NEAREST, setter("versoin", to="1"), "unknown key 'versoin'; did you mean 'version'?", True),
    (NEAREST, setter("features", "n_ftt", to=1), "unknown key 'features.n_ftt'; did you mean 'n_fft'?",
     True),
    (NEAREST, setter("id", to=3), "id=3 must be a string", True),
    (NEAREST, setter("training", to=[]), "training=[] must be a table", True),
    (NEAREST, setter("features", to=[]), "features must be a table", True),
    (NEAREST, setter("features", "n_fft", to="64"), "features.n_fft='64' must be a whole number",
     True),
    (NEAREST, setter("features", "n_fft", to=64.5), "features.n_fft=64.5 must be a whole number",
     True),
    (NEAREST, setter("features", "n_fft", to=True), "features.n_fft=True must be a whole number",
     True),
    (NEAREST, setter("features", "n_fft", to=0), "features.n_fft=0 must be from 1 to 1000000", True),
    (NEAREST, setter("features", "sample_rate", to=10**7),
     "features.sample_rate=10000000 must be from 1 to 1000000", True),
    (NEAREST, setter("features", "n_mels", to=-1), "features.n_mels=-1 must be from 1 to 1000000",
     True),
    (NEAREST, setter("features", "floor", to=0), "features.floor=0 must be more than 0", True),
    (NEAREST, setter("features", "floor", to=None), "features.floor=None must be a number", True),
    (NEAREST, setter("features", "fmin", to=-1), GEOMETRY_RISES.format(-1, 8000), True),
    (NEAREST, setter("features", "fmin", to=8000), GEOMETRY_RISES.format(8000, 8000), False),
    (NEAREST, setter("features", "fmax", to=8001), GEOMETRY_RISES.format(0, 8001), False),
    (NEAREST, setter("features", "hop_length", to=65),
     "features.hop_length and window.hop_frames must leave nothing out", False),
    (NEAREST, setter("window", "hop_frames", to=9),
     "features.hop_length and window.hop_frames must leave nothing out", False),
    (NEAREST, setter("window", "hop_frames", to=0), "window.hop_frames=0 must be from 1 to 1000000",
     True),
    (NEAREST, setter("window", "median_frames", to=4), MEDIAN_RULE.format(4), True),
    (NEAREST, setter("window", "median_frames", to=5), MEDIAN_RULE.format(5), True),
    (NEAREST, setter("window", "median_frames", to=31),
     "window.median_frames=31 must be less than twice window.n_frames=8", False),
    (NEAREST, setter("scoring", "method", to="softmax"),
     "scoring.method='softmax' must be one of log_odds, nearest", True),
    (NEAREST, setter("scoring", "method", to="log_odds"), NO_SOFTMAX, True),
    (NEAREST, setter("scoring", "n_neighbours", to=0), "scoring.n_neighbours=0 must be at least 1",
     True),
    (NEAREST, setter("scoring", "clip_windows", to=10_001),
     "scoring.clip_windows=10001 must be from 1 to 10000", True),
    (NEAREST, setter("sections", to=[]), "sections=[] must be at least one section", True),
    (NEAREST, setter("sections", to={}), "sections must be a list", True),
    (NEAREST, setter("sections", 0, to=3), "sections[0] must be a table", True),
    (NEAREST, setter("sections", 0, "name", to=0), "sections[0].name=0 must be a string", True),
    (LOG_ODDS, setter("sections", 1, "name", to="00"), "sections must have names of their own",
     False),
    (NEAREST, setter("sections", 0, "threshold", to="1"), "sections[0].threshold='1' must be a number",
     True),
    (NEAREST, setter("sections", 0, "references", "shape", to=[3]),
     "sections[0].references.shape=[3] must be two positive numbers", True),
    (NEAREST, setter("sections", 0, "references", "shape", to=[0, 4]),
     "sections[0].references.shape=[0, 4] must be two positive numbers", True),
    (NEAREST, setter("sections", 0, "references", "shape", 0, to="1"),
     "sections[0].references.shape[0]='1' must be a whole number", True),
    (NEAREST, setter("sections", 0, "references", "shape", 0, to=999),
     "sections[0].references.float32 must be base64 of (999, 4) float32 values", False),
    (NEAREST, setter("sections", 0, "references", "shape", 0, to=10**30),
     f"sections[0].references.float32 must be base64 of ({10**30}, 4) float32 values", False),
    (NEAREST, setter("sections", 0, "references", to={"shape": [2, 4], "float32": "?"}),
     "sections[0].references.float32 must be base64 of (2, 4) float32 values", True),
    (NEAREST, setter("sections", 0, "references", to={"shape": [2, 4], "float32": "é"}),
     "sections[0].references.float32 must be base64 of (2, 4) float32 values", True),
    (NEAREST, setter("sections", 0, "references", to={"shape": [2, 4], "float32": NAN_REFERENCES}),
     "sections[0].references.float32 must hold finite numbers only", False),
    (NEAREST, setter("sections", 0, "references", to=ZERO_REFERENCES),
     "sections[0].references must not hold a zero vector", False),
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


# --- graphs that do not fit ----------------------------------------------------------------------


def test_model_geometry_of_another_graph_is_refused() -> None:
    """The window that the document describes must be what the graph takes."""
    message = (
        "graph input log_mel has shape ['batch', 1, 8, 8]; window.n_frames and features.n_mels "
        "ask for ['batch', 1, {}]"
    )

    assert refusal(changed(NEAREST, setter("features", "n_mels", to=9))) == message.format("8, 9")
    assert refusal(changed(NEAREST, setter("window", "n_frames", to=9))) == message.format("9, 8")


def test_model_logits_of_other_sections_are_refused() -> None:
    """Every section needs a logit of its own, and every logit a section."""
    three = changed(
        LOG_ODDS,
        lambda document: document["sections"].append({**document["sections"][0], "name": "02"}),
    )

    assert refusal(three) == (
        "sections has 3 entries and must have one for each of the graph's 2 logits"
    )


def test_model_references_of_another_embedding_are_refused() -> None:
    """References must be as long as what the network gives."""
    references = References.of(np.ones((2, 5), np.float32))

    message = refusal(changed(NEAREST, setter("sections", 0, "references", to=asdict(references))))

    assert message == (
        "sections[0].references.shape=[2, 5] must have 4 columns, as many as the graph's embedding"
    )


DOCUMENT_TEXT = json.dumps(document_of(NEAREST))
LOG_ODDS_TEXT = json.dumps(document_of(LOG_ODDS))
INPUT_SHAPE: tuple[int | str, ...] = ("batch", 1, 8, 8)


def pooled_graph(
    *nodes: onnx.NodeProto, shape: tuple[int | str, ...], dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """Return the graph of *nodes* from ``log_mel`` to an ``embedding`` of *shape*."""
    return wrap_graph(
        list(nodes), inputs={INPUT: INPUT_SHAPE}, outputs={EMBEDDING: shape}, dtype=dtype
    )


def test_model_graph_with_other_names_is_refused() -> None:
    """The graph's input and outputs are known by their names."""
    other_input = wrap_graph(
        [helper.make_node("Flatten", ["sound"], [EMBEDDING], axis=1)],
        inputs={"sound": INPUT_SHAPE},
        outputs={EMBEDDING: ("batch", 64)},
    )
    other_output = wrap_graph(
        [helper.make_node("Flatten", [INPUT], ["feature"], axis=1)],
        inputs={INPUT: INPUT_SHAPE},
        outputs={"feature": ("batch", 64)},
    )
    no_logits = pooled_graph(
        helper.make_node("Flatten", [INPUT], [EMBEDDING], axis=1), shape=("batch", 64)
    )

    assert refusal(with_metadata(other_input, DOCUMENT_TEXT)) == (
        "graph inputs ['sound'] must be ['log_mel']"
    )
    assert refusal(with_metadata(other_output, DOCUMENT_TEXT)) == (
        "graph outputs ['feature'] must hold 'embedding'"
    )
    assert refusal(with_metadata(no_logits, LOG_ODDS_TEXT)) == (
        "graph outputs ['embedding'] must hold 'logits'"
    )


def test_model_graph_of_another_type_is_refused() -> None:
    """A graph that takes float64 cannot be fed with float32 windows."""
    graph = pooled_graph(
        helper.make_node("Flatten", [INPUT], [EMBEDDING], axis=1),
        shape=("batch", 64),
        dtype=TensorProto.DOUBLE,
    )

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        "graph input log_mel has type tensor(double) and must have tensor(float)"
    )


@pytest.mark.parametrize("shape", [(32, 1, 8, 8), ("batch", 8, 8), None])
def test_model_graph_of_another_rank_or_batch_is_refused(shape: tuple[int | str, ...] | None) -> None:
    """A batch of several windows, a missing axis or no shape at all cannot be fed."""
    graph = pooled_graph(
        helper.make_node("Flatten", [INPUT], [EMBEDDING], axis=1), shape=("rows", "columns")
    )
    graph.graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        f"graph input log_mel has shape {list(shape or [])}; window.n_frames and features.n_mels "
        "ask for ['batch', 1, 8, 8]"
    )


def test_model_embedding_of_another_rank_is_refused() -> None:
    """An embedding is one row a window."""
    graph = pooled_graph(helper.make_node("Identity", [INPUT], [EMBEDDING]), shape=INPUT_SHAPE)

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        "graph output embedding must be float32 of shape ['batch', n]"
    )


def test_model_scalar_embedding_is_refused() -> None:
    """An embedding without any axis is refused, not let out as an IndexError."""
    graph = pooled_graph(
        helper.make_node("ReduceMean", [INPUT], [EMBEDDING], keepdims=0), shape=()
    )

    message = refusal(with_metadata(graph, DOCUMENT_TEXT))

    assert message.startswith("graph cannot be run on silence (")


def test_model_graph_that_fails_when_run_is_refused() -> None:
    """A graph that loads but cannot be run is refused at the start, not at the first window."""
    graph = wrap_graph(
        [
            helper.make_node("Flatten", [INPUT], ["flat"], axis=1),
            helper.make_node("NonZero", ["flat"], ["places"]),
            helper.make_node("Cast", ["places"], ["columns"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["columns", "weights"], [EMBEDDING]),
        ],
        inputs={INPUT: INPUT_SHAPE},
        outputs={EMBEDDING: ("batch", 4)},
        constants={"weights": np.ones((3, 4), np.float32)},
    )

    message = refusal(with_metadata(graph, DOCUMENT_TEXT))

    assert message.startswith("graph cannot be run on silence ([ONNXRuntimeError] : ")


def test_model_not_finite_on_silence_is_refused() -> None:
    """A network that gives NaN when the machine is off is refused before it is."""
    graph = pooled_graph(
        helper.make_node("Sqrt", [INPUT], ["root"]),
        helper.make_node("Flatten", ["root"], [EMBEDDING], axis=1),
        shape=("batch", 64),
    )

    assert refusal(with_metadata(graph, DOCUMENT_TEXT)) == (
        "graph output embedding must be finite for silence"
    )


# --- damage --------------------------------------------------------------------------------------


def load_or_refuse(content: bytes) -> None:
    """Load the model file *content* and use it, or see it refused with a ModelError."""
    try:
        model = Model(content, "tiny.onnx")
    except ModelError as exc:
        assert str(exc).startswith("tiny.onnx: ")
    else:
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


# --- the schema ----------------------------------------------------------------------------------


def test_schema_is_valid() -> None:
    """The schema is itself valid, by draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA_DOCUMENT)


GOOD_DOCUMENTS: list[Callable[[], dict[str, Any]]] = [
    lambda: document_of(NEAREST),
    lambda: document_of(LOG_ODDS),
    lambda: document_of(small_content(3, "nearest")),
    lambda: {**document_of(NEAREST), "training": {"seed": 1, "metrics": {"auc": [0.5, None]}}},
    lambda: {key: value for key, value in document_of(NEAREST).items() if key != "training"},
    lambda: {**document_of(NEAREST), "features": {}, "window": {}},
    lambda: {**document_of(NEAREST), "scoring": {"method": "nearest"}},
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


def test_schema_names_every_field_of_the_code() -> None:
    """The schema has the fields of the code, and a description for each."""
    document = document_of(NEAREST)

    def compare(schema: dict[str, Any], value: Any) -> None:
        if "$ref" in schema:
            schema = {**SCHEMA_DOCUMENT["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
        assert schema.get("description")
        if isinstance(value, dict) and schema.get("additionalProperties") is False:
            assert set(schema["properties"]) == set(value)
            for key, inner in value.items():
                compare(schema["properties"][key], inner)
        if isinstance(value, list) and isinstance(value[0], dict):
            compare({"description": "items", **schema["items"]}, value[0])

    compare(SCHEMA_DOCUMENT, document)
    assert SCHEMA_DOCUMENT["properties"]["schema"]["const"] == SCHEMA


def test_document_check_direct_refuses_what_the_file_would() -> None:
    """A document made in code is checked by the same rules as one that is read."""
    document = make_document(n_sections=1, method="log_odds")

    with pytest.raises(DocumentError) as caught:
        document.check()

    assert str(caught.value) == NO_SOFTMAX
    with pytest.raises(DocumentError, match=r"^sections\[0\].references is missing$"):
        replace(document, scoring=replace(document.scoring, method="nearest")).check()


def test_references_little_endian_float32_in_row_order() -> None:
    """The bytes behind the base64 are what the schema says, for readers in other languages."""
    references = References.of(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))

    assert base64.b64decode(references.float32) == np.array([1, 2, 3, 4], "<f4").tobytes()


def test_model_outputs_keep_their_names() -> None:
    """Exported graphs and the code agree on the names of the graph's ends."""
    assert (INPUT, EMBEDDING, LOGITS, METADATA_KEY) == (
        "log_mel",
        "embedding",
        "logits",
        "edgeasd",
    )
