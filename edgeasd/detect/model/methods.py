"""From the document of a model to its scoring methods."""

from __future__ import annotations

from collections.abc import Sequence

from edgeasd.common.documents.reading import DocumentError
from edgeasd.detect.model.document import (
    BY_DISTANCE,
    DistanceDocument,
    ModelDocument,
    ScoringDocument,
)
from edgeasd.detect.model.matrix import MOST_ROWS, Matrix
from edgeasd.detect.scoring import (
    LogOddsScoring,
    MahalanobisScoring,
    NearestScoring,
    NetworkOutput,
    ReconstructionScoring,
    Scoring,
)

_MOST_CLIP_VALUES = 2**22
"""Most values in the windows that a score rests on: 32 MB, which are moved at every window."""


def make_scoring(
    scoring: ScoringDocument,
    section: int,
    references: Matrix | None,
    distances: Sequence[DistanceDocument],
) -> Scoring:
    """Return the scoring method of one section.

    Args:
        scoring: The method and its parameters.
        section: Index of the section among the logits.
        references: Embeddings of its normal sound; `None` for methods without references.
        distances: How ``mahalanobis`` measures.

    Raises:
        ValueError: If these references or distances do not suffice for the method.
    """
    if scoring.method == "log_odds":
        return LogOddsScoring(section)
    if scoring.method == "reconstruction":
        return ReconstructionScoring()
    if references is None:
        raise ValueError("references is missing")
    if scoring.method == "nearest":
        return NearestScoring(references.values, scoring.n_neighbours)
    pairs = [(one.weight, one.whitening.values) for one in distances]
    return MahalanobisScoring(references.values, pairs)


def scorings_of(document: ModelDocument) -> list[Scoring]:
    """Return the scoring method for each section of *document*.

    Raises:
        DocumentError: If references or distances do not suffice for the method; the message names
            the field.
    """
    return [_scoring_of(document, index) for index in range(len(document.sections))]


def _scoring_of(document: ModelDocument, index: int) -> Scoring:
    references = document.sections[index].references
    try:
        return make_scoring(document.scoring, index, references, document.distances)
    except ValueError as exc:
        raise DocumentError(f"sections[{index}].{exc}") from exc


def check_lengths(document: ModelDocument, output: NetworkOutput) -> None:
    """Check that the shapes in *document* fit the *output* of its network.

    Raises:
        DocumentError: If they do not; the message names the field.
    """
    n_dims = len(output.embedding)
    clip_windows, method = document.scoring.clip_windows, document.scoring.method
    if n_dims > MOST_ROWS:
        raise DocumentError(
            f"graph output embedding has {n_dims} values and must have at most {MOST_ROWS}"
        )
    if method in BY_DISTANCE and clip_windows * n_dims > _MOST_CLIP_VALUES:
        raise DocumentError(
            f"scoring.clip_windows={clip_windows} must be at most "
            f"{_MOST_CLIP_VALUES // n_dims} for an embedding of {n_dims} values"
        )
    sections = document.sections
    for name, matrix in document.matrices():
        if matrix.shape[1] != n_dims and not name.endswith("spectrum"):
            raise DocumentError(
                f"{name}.shape={list(matrix.shape)} must have {n_dims} columns, as many as "
                "the graph's embedding"
            )
    if method == "reconstruction" and n_dims != 1:
        raise DocumentError(
            f"graph output embedding has {n_dims} values and must have 1, the error, for "
            "scoring.method='reconstruction'"
        )
    if output.logits is not None and len(output.logits) != len(sections):
        raise DocumentError(
            f"sections has {len(sections)} entries and must have one for each of "
            f"the graph's {len(output.logits)} logits"
        )
