"""The model file: ONNX, with one JSON document in its metadata that says all else.

``deploy/schemas/model.schema.json`` is the schema of that document.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # noqa: TID251 - the one place

from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.scoring import LogOddsScoring, NearestScoring, NetworkOutput, Scoring
from edgeasd.detect.windows import WindowSpec
from edgeasd.document import DocumentError, at_least, between, one_of, read_table, rule
from edgeasd.errors import ModelError
from edgeasd.stream import Float32Array

METADATA_KEY = "edgeasd"
SCHEMA = "edgeasd.model/1"
INPUT = "log_mel"
EMBEDDING = "embedding"
LOGITS = "logits"


@dataclass(frozen=True, slots=True)
class References:
    """Embeddings of normal sound.

    Attributes:
        shape: ``[n_references, n_dims]``.
        float32: The values in row order, little-endian float32, base64.
    """

    shape: tuple[int, ...] = field(
        metadata=rule(lambda value: len(value) == 2 and min(value) > 0, "two positive numbers")  # noqa: PLR2004
    )
    float32: str

    @classmethod
    def of(cls, embeddings: Float32Array) -> References:
        """Return the references that hold *embeddings*, shape ``(n_references, n_dims)``."""
        values = np.ascontiguousarray(embeddings, "<f4")
        return cls(embeddings.shape, base64.b64encode(values.tobytes()).decode("ascii"))

    def embeddings(self) -> Float32Array:
        """Return the embeddings, shape ``(n_references, n_dims)``.

        Raises:
            DocumentError: If the text is not base64 of as many numbers as the shape says.
        """
        try:
            values = np.frombuffer(base64.b64decode(self.float32, validate=True), "<f4")
            embeddings: Float32Array = values.reshape(self.shape).astype(np.float32)
        except (binascii.Error, ValueError) as exc:
            raise DocumentError(
                f"references.float32 must be base64 of {self.shape} float32 values"
            ) from exc
        if not np.isfinite(embeddings).all():
            raise DocumentError("references.float32 must hold finite numbers only")
        return embeddings


@dataclass(frozen=True, slots=True)
class ScoringDocument:
    """How the network's output becomes a score.

    Attributes:
        method: ``log_odds`` (Eq. 3 of the paper) or ``nearest`` (distance to the references).
        n_neighbours: For ``nearest``: references that make the local density.
        clip_windows: Windows that a score rests on.
    """

    method: str = field(metadata=one_of("log_odds", "nearest"))
    n_neighbours: int = field(default=1, metadata=at_least(1))
    clip_windows: int = field(default=31, metadata=between(1, 10_000))


@dataclass(frozen=True, slots=True)
class SectionDocument:
    """One section: a machine, or one of its operating conditions.

    Attributes:
        name: As in the names of the training clips, for example ``00``.
        threshold: Score at which the alarm is raised unless the site says otherwise.
        clear_threshold: Score below which the alarm may end.
        references: What normal sounds like; needed by ``nearest``.
    """

    name: str
    threshold: float
    clear_threshold: float
    references: References | None = None


@dataclass(frozen=True, slots=True)
class ModelDocument:
    """What the model file says about itself.

    Attributes:
        id: Name of the model.
        version: Version of the model, for people.
        created: RFC 3339 time at which it was made.
        machine_type: As in DCASE Task 2, for example ``fan``.
        features: Geometry of the log-mel frames.
        window: Geometry of the windows.
        scoring: How the network's output becomes a score.
        sections: In the order of the logits.
        training: Provenance: recipe, data, seed, versions, metrics; free in form.
        schema: Version of this form.
    """

    id: str
    version: str
    created: str
    machine_type: str
    features: FeatureSpec
    window: WindowSpec
    scoring: ScoringDocument
    sections: tuple[SectionDocument, ...] = field(
        metadata=rule(lambda value: len(value) > 0, "at least one section")
    )
    training: dict[str, Any] = field(default_factory=dict)
    schema: str = field(default=SCHEMA, metadata=one_of(SCHEMA))

    def to_json(self) -> str:
        """Return the document as it stands in the model file."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelDocument:
        """Return the document in *text*.

        Raises:
            DocumentError: If a field is missing, unknown or wrong; the message names it.
        """
        try:
            table = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise DocumentError(f"metadata {METADATA_KEY!r} is not JSON: {exc}") from exc
        if not isinstance(table, dict):
            raise DocumentError(f"metadata {METADATA_KEY!r} must be a table")
        # Told first: of another version of the form every other complaint would mislead.
        if table.get("schema") != SCHEMA:
            raise DocumentError(f"schema={table.get('schema')!r} must be {SCHEMA!r}")
        document = read_table(cls, table)
        document.check()
        return document

    def check(self) -> None:
        """Check what concerns more than one field.

        Raises:
            DocumentError: If the fields contradict each other.
        """
        _check_geometry(self.features, self.window)
        names = [section.name for section in self.sections]
        if len(set(names)) < len(names):
            raise DocumentError("sections must have names of their own")
        if self.scoring.method == "log_odds" and len(names) == 1:
            raise DocumentError(
                "scoring.method='log_odds' must be 'nearest' for a model of one section, "
                "as a softmax over one class is always 1"
            )
        for index, section in enumerate(self.sections):
            if section.clear_threshold > section.threshold:
                raise DocumentError(
                    f"sections[{index}].clear_threshold={section.clear_threshold} must be at most "
                    f"threshold={section.threshold}"
                )
            if self.scoring.method == "nearest" and section.references is None:
                raise DocumentError(f"sections[{index}].references is missing")


def _check_geometry(features: FeatureSpec, window: WindowSpec) -> None:
    for name, value in (
        ("features.sample_rate", features.sample_rate),
        ("features.n_fft", features.n_fft),
        ("features.hop_length", features.hop_length),
        ("features.n_mels", features.n_mels),
        ("window.n_frames", window.n_frames),
        ("window.hop_frames", window.hop_frames),
        ("window.median_frames", window.median_frames),
    ):
        if not 1 <= value <= 1_000_000:  # noqa: PLR2004 - beyond any use
            raise DocumentError(f"{name}={value} must be from 1 to 1000000")
    if not 0 <= features.fmin < features.fmax <= features.sample_rate / 2:
        raise DocumentError(
            f"features.fmin={features.fmin:g} and fmax={features.fmax:g} must rise from 0 to at "
            f"most half of sample_rate={features.sample_rate}"
        )
    if not features.floor > 0:
        raise DocumentError(f"features.floor={features.floor:g} must be more than 0")
    if features.hop_length > features.n_fft or window.hop_frames > window.n_frames:
        raise DocumentError("features.hop_length and window.hop_frames must leave nothing out")
    if (window.median_frames + 1) & window.median_frames:
        raise DocumentError(
            f"window.median_frames={window.median_frames} must be one less than a power of two"
        )
    if window.median_frames // 2 >= window.n_frames:
        raise DocumentError(
            f"window.median_frames={window.median_frames} must be less than twice "
            f"window.n_frames={window.n_frames}"
        )


class Model:
    """A network that can be run, and its document.  Safe to share between threads.

    Args:
        content: The bytes of a model file.
        origin: Where they come from, for messages.

    Attributes:
        document: What the file says about itself.
        sha256: Hexadecimal digest of the file, as events carry it.

    Raises:
        ModelError: If the file is not a model of ours or contradicts itself; the message names
            the field.
    """

    def __init__(self, content: bytes, origin: str) -> None:
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._origin = origin
        self._session = _open_session(content, origin)
        try:
            self.document = self._read_document()
            self._outputs = self._check_graph()
            self._check_run()
            self._scorings = [
                self._make_scoring(index) for index in range(len(self.document.sections))
            ]
        except (DocumentError, ValueError) as exc:
            raise ModelError(f"{origin}: {exc}") from exc

    def run(self, values: Float32Array) -> NetworkOutput:
        """Return what the network says of one window.

        One window a call: a batch may be rounded differently, and replay must equal live.

        Args:
            values: Shape ``(window_frames, n_mels)``, dB, median filtered.
        """
        embedding, *logits = self._session.run(self._outputs, {INPUT: values[None, None]})
        return NetworkOutput(embedding[0], logits[0][0] if logits else None)

    def section_index(self, name: str) -> int:
        """Return the index of the section *name*; an empty name is the model's only section.

        Raises:
            ModelError: If there is no such section, or the choice is open.
        """
        names = [section.name for section in self.document.sections]
        if name == "" and len(names) == 1:
            return 0
        if name not in names:
            raise ModelError(f"{self._origin}: section={name!r} must be one of {', '.join(names)}")
        return names.index(name)

    def scoring(self, section: int) -> Scoring:
        """Return the scoring method for the section of index *section*."""
        return self._scorings[section]

    def _read_document(self) -> ModelDocument:
        # Names and metadata that are not UTF-8 come out of ONNX Runtime as a ValueError.
        metadata = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise DocumentError(
                f"is ONNX but has no metadata {METADATA_KEY!r}; "
                "make a model file with 'python -m train export'"
            )
        return ModelDocument.from_json(metadata[METADATA_KEY])

    def _make_scoring(self, index: int) -> Scoring:
        method = self.document.scoring
        if method.method == "log_odds":
            return LogOddsScoring(index)
        references = self.document.sections[index].references
        if references is None:
            raise DocumentError(f"sections[{index}].references is missing")
        try:
            return NearestScoring(references.embeddings(), method.n_neighbours)
        except (DocumentError, ValueError) as exc:
            raise DocumentError(f"sections[{index}].{exc}") from exc

    def _check_graph(self) -> list[str]:
        """Check the graph's ends against the document and return the names of its outputs."""
        document = self.document
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = [node.name for node in self._session.get_outputs()]
        if set(inputs) != {INPUT}:
            raise DocumentError(f"graph inputs {sorted(inputs)} must be [{INPUT!r}]")
        if inputs[INPUT].type != "tensor(float)":
            raise DocumentError(
                f"graph input {INPUT} has type {inputs[INPUT].type} and must have tensor(float)"
            )
        expected = [1, document.window.n_frames, document.features.n_mels]
        shape = inputs[INPUT].shape
        # A batch of any size has a name or nothing at that place.
        if shape[1:] != expected or (isinstance(shape[0], int) and shape[0] != 1):
            raise DocumentError(
                f"graph input {INPUT} has shape {shape}; window.n_frames and features.n_mels ask "
                f"for ['batch', {', '.join(map(str, expected))}]"
            )
        needed = [EMBEDDING, LOGITS] if document.scoring.method == "log_odds" else [EMBEDDING]
        for name in needed:
            if name not in outputs:
                raise DocumentError(f"graph outputs {sorted(outputs)} must hold {name!r}")
        return needed

    def _check_run(self) -> None:
        """Run the graph on silence and check what comes out against the document."""
        features, window = self.document.features, self.document.window
        silence_db = np.float32(10.0 * np.log10(features.floor))
        try:
            output = self.run(np.full((window.n_frames, features.n_mels), silence_db))
        except Exception as exc:
            # As in _open_session; outputs without a batch axis fail in run() itself.
            raise DocumentError(f"graph cannot be run on silence ({_first_line(exc)})") from exc
        for name, value in ((EMBEDDING, output.embedding), (LOGITS, output.logits)):
            if value is not None and (value.ndim != 1 or value.dtype != np.float32):
                raise DocumentError(f"graph output {name} must be float32 of shape ['batch', n]")
            if value is not None and not np.isfinite(value).all():
                raise DocumentError(f"graph output {name} must be finite for silence")
        self._check_lengths(output)

    def _check_lengths(self, output: NetworkOutput) -> None:
        n_dims = len(output.embedding)
        sections = self.document.sections
        for index, section in enumerate(sections):
            if section.references is not None and section.references.shape[1] != n_dims:
                raise DocumentError(
                    f"sections[{index}].references.shape={list(section.references.shape)} must "
                    f"have {n_dims} columns, as many as the graph's embedding"
                )
        if output.logits is not None and len(output.logits) != len(sections):
            raise DocumentError(
                f"sections has {len(sections)} entries and must have one for each of "
                f"the graph's {len(output.logits)} logits"
            )


def load_model(path: Path) -> Model:
    """Load the model file at *path*.

    Raises:
        ModelError: If it cannot be read or used; the message names the field.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ModelError(
            f"{path}: cannot be read ({exc.strerror}); 'python -m train export' makes a model file"
        ) from exc
    return Model(content, str(path))


def _open_session(content: bytes, origin: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # One thread that sleeps between windows: a spinning pool would eat a core of the factory PC.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            content, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as exc:
        # ONNX Runtime's exceptions share no base class but this one.
        raise ModelError(
            f"{origin}: is not an ONNX model that can be run ({_first_line(exc)})"
        ) from exc


def _first_line(exc: Exception) -> str:
    return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
