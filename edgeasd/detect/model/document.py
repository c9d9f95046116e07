"""What a model file says about itself: the JSON document in its metadata.

Each field has its description and its rule here, for the reader and for the JSON schema alike;
``deploy/schemas/model.schema.json`` is generated from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import numpy as np

from edgeasd.common.documents.json_text import read_json
from edgeasd.common.documents.reading import (
    DocumentError,
    Rule,
    at_most_items,
    between,
    one_of,
    read_table,
    rule,
)
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.model.geometry import check_geometry
from edgeasd.detect.model.matrix import MOST_ROWS, Matrix, StoredMatrix
from edgeasd.detect.windows import WindowSpec

METADATA_KEY = "edgeasd"
SCHEMA = "edgeasd.model/1"
METHODS = ("log_odds", "nearest", "mahalanobis", "reconstruction")
"""Names of all scoring methods; `methods.make_scoring` has one for each."""
BY_DISTANCE = ("nearest", "mahalanobis")
"""Scoring methods that need references."""
MOST_DOCUMENT_BYTES = 2**25
"""Most bytes of a document.  It takes 16 MB with all training clips of six sections as references,
of 512 values each."""
SCORE_LIMIT = 1e15
"""Largest magnitude of a score or threshold."""
MOST_DISTANCES = 16
"""Most distances that are multiplied to one score."""
_MOST_CHARACTERS = 200
_MOST_SECTIONS = 256
COMPLETE = ("features", "window", "scoring")
"""Tables in which no key may be left out: a default that changes later must not change what old
model files mean."""


def _word(**keywords: str) -> Rule:
    return rule(
        lambda value: len(value) <= _MOST_CHARACTERS and value.isprintable(),
        f"at most {_MOST_CHARACTERS} printable characters",
        maxLength=_MOST_CHARACTERS,
        **keywords,
    )


WORD = _word()
"""Rule of a name that appears in messages, logs and payloads."""
TIME = _word(format="date-time")
"""Rule of a time, which is shown to people as it is."""
THRESHOLD = between(-SCORE_LIMIT, SCORE_LIMIT)
"""Rule of a score at which an alarm starts or ends."""


@dataclass(frozen=True, slots=True)
class DistanceDocument:
    """One way to measure how far an embedding is from the references."""

    weight: Annotated[float, between(1e-6, 1e6)]
    """Weight in the geometric mean of the distances."""
    whitening: StoredMatrix
    """Matrix that embeddings are multiplied by; as many columns as the graph's embedding has
    values.  Its transpose times itself is the inverse of the covariance of normal sound, or another
    weighting of its directions."""


@dataclass(frozen=True, slots=True)
class ScoringDocument:
    """How the network's output becomes a score; higher is more anomalous."""

    method: Annotated[str, one_of(*METHODS)]
    """``log_odds``: mean over the windows of logsumexp(other logits) minus the section's logit
    (Cai et al., DCASE 2021, Eq. 3); needs at least two sections.  ``nearest``: cosine distance of
    the mean embedding to the nearest reference, divided by the mean distance of that reference to
    its n_neighbours nearest others.  ``mahalanobis``: Euclidean distance of the mean embedding to
    the nearest reference, both multiplied by a whitening matrix first.  ``reconstruction``: mean
    over the windows of the graph's embedding, which is one value."""
    n_neighbours: Annotated[int, between(1, MOST_ROWS)] = 1
    """For ``nearest``: number of references that make the local density."""
    clip_windows: Annotated[int, between(1, 10_000)] = 31
    """Number of windows that a score rests on."""


@dataclass(frozen=True, slots=True)
class SectionDocument:
    """One section: a machine, or one of its operating conditions."""

    name: Annotated[str, WORD]
    """Name of the section as in the names of the training clips, for example ``00``."""
    threshold: Annotated[float, THRESHOLD]
    """Score at which the alarm is raised unless a calibration or the configuration says otherwise;
    in the unit of the scoring method."""
    clear_threshold: Annotated[float, THRESHOLD]
    """Score below which the alarm may end; at most threshold."""
    references: StoredMatrix | None = None
    """Embeddings of normal sound, a row each; needed by ``nearest``, where none may be zero, and by
    ``mahalanobis``."""
    spectrum: StoredMatrix | None = None
    """Log-mel of normal sound by mel bin, three rows in dB: mean over time, its standard deviation
    between clips, and what the loudest 2 % of the frames exceed.  ``edgeasd explain`` compares with
    it; no score depends on it."""


@dataclass(frozen=True, slots=True)
class ModelDocument:
    """What a model file says about itself.

    It says all that the network does not: geometry of the features, scoring method, sections with
    thresholds and references, provenance.  It is JSON in the ONNX metadata property ``edgeasd``, of
    at most 32 MiB, a million values and 32 levels.  Rules between fields that JSON Schema cannot
    express are given in the descriptions; edgeasd refuses a file that breaks them.
    """

    id: Annotated[str, WORD]
    """Name of the model."""
    version: Annotated[str, WORD]
    """Version of the model, for people."""
    created: Annotated[str, TIME]
    """RFC 3339 time at which the model was made."""
    machine_type: Annotated[str, WORD]
    """Type of machine as in DCASE Task 2, for example ``fan``."""
    features: FeatureSpec
    """Geometry of the log-mel frames: periodic Hann window, no padding, power spectrum, Slaney's
    mel scale and normalisation, 10 log10, dB."""
    window: WindowSpec
    """Geometry of the windows."""
    scoring: ScoringDocument
    """How the network's output becomes a score."""
    sections: Annotated[
        tuple[SectionDocument, ...],
        rule(
            lambda value: 0 < len(value) <= _MOST_SECTIONS,
            f"1 to {_MOST_SECTIONS} sections",
            minItems=1,
            maxItems=_MOST_SECTIONS,
        ),
    ]
    """Machines, or their operating conditions, in the order of the logits; their names differ."""
    distances: Annotated[tuple[DistanceDocument, ...], at_most_items(MOST_DISTANCES)] = ()
    """For ``mahalanobis``, which needs at least one: how the distance to a reference is measured.
    The score is their weighted geometric mean."""
    training: dict[str, Any] = field(default_factory=dict)
    """Provenance: recipe, data, seed, versions, metrics; free in form."""
    schema: Annotated[str, one_of(SCHEMA)] = SCHEMA
    """Version of this form."""

    @property
    def learned_from(self) -> frozenset[str]:
        """Digests of the recordings that the model was learned from, if the provenance has them."""
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

    def matrices(self) -> Iterator[tuple[str, Matrix]]:
        """Yield the name and the value of each matrix in the document."""
        for index, section in enumerate(self.sections):
            if section.references is not None:
                yield f"sections[{index}].references", section.references
            if section.spectrum is not None:
                yield f"sections[{index}].spectrum", section.spectrum
        for index, distance in enumerate(self.distances):
            yield f"distances[{index}].whitening", distance.whitening

    def to_json(self) -> str:
        """Return the text of the document in the model file."""
        return json.dumps(self, default=to_table, allow_nan=False)

    def without_numbers(self) -> dict[str, Any]:
        """Return the document as plain values, with only the shape of each matrix."""

        def shown(part: Any) -> dict[str, Any]:
            return {"shape": part.shape} if isinstance(part, Matrix) else to_table(part)

        plain: dict[str, Any] = json.loads(json.dumps(self, default=shown))
        return plain

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
        del text  # it may be megabytes, and the numbers in it are about to be decoded
        if not isinstance(table, dict):
            raise DocumentError(f"metadata {METADATA_KEY!r} must be a table")
        # First, as any other complaint about another version of the form would mislead.
        if table.get("schema") != SCHEMA:
            raise DocumentError(f"schema={table.get('schema')!r:.80} must be {SCHEMA!r}")
        document = read_table(cls, table)
        for name in COMPLETE:
            for key in to_table(getattr(document, name)):
                if key not in table[name]:
                    raise DocumentError(f"{name}.{key} is missing")
        document.check()
        return document

    def check(self) -> None:
        """Check the rules between fields.

        Raises:
            DocumentError: If fields contradict each other; the message names them.
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
        for name, matrix in self.matrices():
            if not np.isfinite(matrix.values).all():
                raise DocumentError(f"{name}.float32 must hold finite numbers only")


def to_table(part: Any) -> dict[str, Any]:
    """Return *part* of a document as a table of its file; the argument *default* of ``json.dumps``.

    Parts within it stay as they are: ``json.dumps`` asks for each of them.
    """
    if isinstance(part, Matrix):
        return part.to_table()
    return {one.name: getattr(part, one.name) for one in fields(part)}


def _is_text(value: object) -> bool:
    return isinstance(value, str)
