"""What a model file says about itself: the JSON document in its metadata.

``deploy/schemas/model.schema.json`` is the schema of that document.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np

from edgeasd.common.documents import (
    DocumentError,
    at_most_items,
    between,
    one_of,
    read_table,
    rule,
)
from edgeasd.common.json_text import read_json
from edgeasd.common.types import Float32Array
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.model.geometry import check_geometry
from edgeasd.detect.windows import WindowSpec

METADATA_KEY = "edgeasd"
SCHEMA = "edgeasd.model/1"
BY_DISTANCE = ("nearest", "mahalanobis")
"""Scoring methods that need references."""
MOST_DOCUMENT_BYTES = 2**25
"""All training clips of six sections as references of 512 values are 16 MB."""
MOST_ROWS = 4096
"""Of a matrix, and its columns; `nearest` compares each reference with each other: 128 MB."""
SCORE_LIMIT = 1e15
"""What scores and thresholds stay below, with either sign."""
_MOST_CHARACTERS = 200
_MOST_SECTIONS = 256
MOST_DISTANCES = 16

WORD = rule(
    lambda value: len(value) <= _MOST_CHARACTERS and value.isprintable(),
    f"at most {_MOST_CHARACTERS} printable characters",
)
"""Of a name, as it stands in messages, logs and payloads."""
THRESHOLD = between(-SCORE_LIMIT, SCORE_LIMIT)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Numbers in rows, such as embeddings of normal sound.

    Attributes:
        shape: ``[n_rows, n_columns]``.
        float32: The values in row order, little-endian float32, base64.
    """

    shape: Annotated[
        tuple[int, ...],
        rule(
            lambda value: len(value) == 2 and min(value) > 0 and max(value) <= MOST_ROWS,  # noqa: PLR2004
            f"two numbers from 1 to {MOST_ROWS}",
        ),
    ]
    float32: str

    @classmethod
    def of(cls, values: Float32Array) -> Matrix:
        """Return the matrix that holds *values*, shape ``(n_rows, n_columns)``."""
        rows = np.ascontiguousarray(values, "<f4")
        return cls(values.shape, base64.b64encode(rows.tobytes()).decode("ascii"))

    def values(self) -> Float32Array:
        """Return the values, shape ``(n_rows, n_columns)``.

        Raises:
            DocumentError: If the text is not base64 of as many numbers as the shape says.
        """
        try:
            flat = np.frombuffer(base64.b64decode(self.float32, validate=True), "<f4")
            values: Float32Array = flat.reshape(self.shape).astype(np.float32)
        except (binascii.Error, ValueError) as exc:
            raise DocumentError(f"float32 must be base64 of {self.shape} float32 values") from exc
        if not np.isfinite(values).all():
            raise DocumentError("float32 must hold finite numbers only")
        return values

    def extended(self, more: Matrix) -> Matrix:
        """Return the rows of this matrix followed by those of *more*.

        Raises:
            DocumentError: If either is damaged, they differ in the number of columns, or there
                would be too many.
        """
        rows, added = self.values(), more.values()
        if rows.shape[1] != added.shape[1]:
            raise DocumentError(f"references have {added.shape[1]} columns, not {rows.shape[1]}")
        if len(rows) + len(added) > MOST_ROWS:
            raise DocumentError(f"references={len(rows) + len(added)} must be at most {MOST_ROWS}")
        return Matrix.of(np.concatenate((rows, added)))


@dataclass(frozen=True, slots=True)
class DistanceDocument:
    """One way to measure how far an embedding is from the references.

    Attributes:
        weight: In the geometric mean of the distances.
        whitening: What embeddings are multiplied by first, shape ``[n_values, n_dims]``.
    """

    weight: Annotated[float, between(1e-6, 1e6)]
    whitening: Matrix


@dataclass(frozen=True, slots=True)
class ScoringDocument:
    """How the network's output becomes a score.

    Attributes:
        method: ``log_odds`` (Eq. 3 of the paper), ``nearest`` or ``mahalanobis`` (distance to the
            references), or ``reconstruction`` (the graph's embedding is the score).
        n_neighbours: For ``nearest``: references that make the local density.
        clip_windows: Windows that a score rests on.
    """

    method: Annotated[str, one_of("log_odds", "nearest", "mahalanobis", "reconstruction")]
    n_neighbours: Annotated[int, between(1, MOST_ROWS)] = 1
    clip_windows: Annotated[int, between(1, 10_000)] = 31


@dataclass(frozen=True, slots=True)
class SectionDocument:
    """One section: a machine, or one of its operating conditions.

    Attributes:
        name: As in the names of the training clips, for example ``00``.
        threshold: Score at which the alarm is raised unless the site says otherwise.
        clear_threshold: Score below which the alarm may end.
        references: Embeddings of normal sound; needed by ``nearest`` and ``mahalanobis``.
        spectrum: How loud normal sound is, as `NormalSpectrum.rows`; no score depends on it.
    """

    name: Annotated[str, WORD]
    threshold: Annotated[float, THRESHOLD]
    clear_threshold: Annotated[float, THRESHOLD]
    references: Matrix | None = None
    spectrum: Matrix | None = None


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
        distances: How ``mahalanobis`` measures; it needs at least one.
        training: Provenance: recipe, data, seed, versions, metrics; free in form.
        schema: Version of this form.
    """

    id: Annotated[str, WORD]
    version: Annotated[str, WORD]
    created: Annotated[str, WORD]
    machine_type: Annotated[str, WORD]
    features: FeatureSpec
    window: WindowSpec
    scoring: ScoringDocument
    sections: Annotated[
        tuple[SectionDocument, ...],
        rule(lambda value: 0 < len(value) <= _MOST_SECTIONS, f"1 to {_MOST_SECTIONS} sections"),
    ]
    distances: Annotated[tuple[DistanceDocument, ...], at_most_items(MOST_DISTANCES)] = ()
    training: dict[str, Any] = field(default_factory=dict)
    schema: Annotated[str, one_of(SCHEMA)] = SCHEMA

    @property
    def learned_from(self) -> frozenset[str]:
        """Digests of the recordings that it was learned from, where the provenance has them."""
        found = self.training.get("recordings")
        return frozenset(filter(_is_text, found)) if isinstance(found, list) else frozenset()

    @property
    def hop_samples(self) -> int:
        """Samples from one score to the next."""
        return self.window.hop_frames * self.features.hop_length

    @property
    def score_samples(self) -> int:
        """Samples that a score rests on."""
        n_hops = self.scoring.clip_windows - 1
        return self.features.n_samples(self.window.n_frames) + n_hops * self.hop_samples

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
            table = read_json(text)
        except DocumentError as exc:
            raise DocumentError(f"metadata {METADATA_KEY!r} {exc}") from exc
        if not isinstance(table, dict):
            raise DocumentError(f"metadata {METADATA_KEY!r} must be a table")
        # Told first: of another version of the form every other complaint would mislead.
        if table.get("schema") != SCHEMA:
            raise DocumentError(f"schema={table.get('schema')!r:.80} must be {SCHEMA!r}")
        document = read_table(cls, table)
        for name in ("features", "window", "scoring"):
            for key in asdict(getattr(document, name)):
                # Else a default that changes would change what old model files mean.
                if key not in table[name]:
                    raise DocumentError(f"{name}.{key} is missing")
        document.check()
        return document

    def check(self) -> None:
        """Check what concerns more than one field.

        Raises:
            DocumentError: If the fields contradict each other.
        """
        check_geometry(self.features, self.window)
        names = [section.name for section in self.sections]
        if len(set(names)) < len(names):
            raise DocumentError("sections must have names of their own")
        if self.scoring.method == "log_odds" and len(names) == 1:
            raise DocumentError(
                "scoring.method='log_odds' must be a distance for a model of one section, "
                "as a softmax over one class is always 1"
            )
        for index, section in enumerate(self.sections):
            if section.clear_threshold > section.threshold:
                raise DocumentError(
                    f"sections[{index}].clear_threshold={section.clear_threshold} must be at most "
                    f"threshold={section.threshold}"
                )
            if self.scoring.method in BY_DISTANCE and section.references is None:
                raise DocumentError(f"sections[{index}].references is missing")
            shape = (3, self.features.n_mels)
            if section.spectrum is not None and section.spectrum.shape != shape:
                raise DocumentError(
                    f"sections[{index}].spectrum.shape={section.spectrum.shape} must be {shape}"
                )
        if self.scoring.method == "mahalanobis" and not self.distances:
            raise DocumentError("distances must be at least one for scoring.method='mahalanobis'")


def with_metadata(graph: bytes, document: ModelDocument) -> bytes:
    """Return the bytes of a model file: the ONNX *graph*, which has no document, with *document*.

    Serialised messages of Protocol Buffers that follow each other are merged when they are read, so
    that the document need only be appended, as one more entry of ``ModelProto.metadata_props``.

    References:
        onnx.proto, ModelProto (field 14) and StringStringEntryProto (1, 2); Protocol Buffers,
        Encoding, "Last One Wins".
    """
    entry = _length_delimited(1, METADATA_KEY) + _length_delimited(2, document.to_json())
    return graph + _length_delimited(14, entry)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _length_delimited(field_number: int, value: str | bytes) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return _varint(field_number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Return seven bits a byte, the lowest first; all but the last have the top bit set."""
    groups = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
