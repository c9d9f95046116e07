"""What a model's document says of normal sound, made ready to be used."""

from __future__ import annotations

from edgeasd.common.documents import DocumentError
from edgeasd.common.types import Float32Array
from edgeasd.detect.model.document import BY_DISTANCE, MOST_ROWS, Matrix, ModelDocument
from edgeasd.detect.model.spectrum import NormalSpectrum
from edgeasd.detect.scoring import (
    LogOddsScoring,
    MahalanobisScoring,
    NearestScoring,
    NetworkOutput,
    ReconstructionScoring,
    Scoring,
)

_MOST_CLIP_VALUES = 2**22
"""Of the windows that a score rests on: 32 MB, moved at every window."""


def scorings_of(document: ModelDocument) -> list[Scoring]:
    """Return the scoring method for each section of *document*.

    Raises:
        DocumentError: If numbers of it are missing or damaged; the message names the field.
    """
    return [_scoring_of(document, index) for index in range(len(document.sections))]


def spectra_of(document: ModelDocument) -> list[NormalSpectrum | None]:
    """Return how loud normal sound is in each section of *document*, where it says so.

    Raises:
        DocumentError: If numbers of it are damaged; the message names the field.
    """
    return [
        None
        if one.spectrum is None
        else NormalSpectrum.of_rows(_values(one.spectrum, f"sections[{index}].spectrum"))
        for index, one in enumerate(document.sections)
    ]


def check_lengths(document: ModelDocument, output: NetworkOutput) -> None:
    """Check that the numbers in *document* fit what its network says of a window.

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
    references = {f"sections[{i}].references": one.references for i, one in enumerate(sections)}
    whitenings = {
        f"distances[{i}].whitening": one.whitening for i, one in enumerate(document.distances)
    }
    for name, matrix in {**references, **whitenings}.items():
        if matrix is not None and matrix.shape[1] != n_dims:
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


def _scoring_of(document: ModelDocument, index: int) -> Scoring:
    method = document.scoring
    if method.method == "log_odds":
        return LogOddsScoring(index)
    if method.method == "reconstruction":
        return ReconstructionScoring()
    name = f"sections[{index}].references"
    matrix = document.sections[index].references
    if matrix is None:
        raise DocumentError(f"{name} is missing")
    references = _values(matrix, name)
    try:
        if method.method == "nearest":
            return NearestScoring(references, method.n_neighbours)
        return MahalanobisScoring(references, _distances_of(document))
    except ValueError as exc:
        raise DocumentError(f"sections[{index}].{exc}") from exc


def _distances_of(document: ModelDocument) -> list[tuple[float, Float32Array]]:
    return [
        (one.weight, _values(one.whitening, f"distances[{index}].whitening"))
        for index, one in enumerate(document.distances)
    ]


def _values(matrix: Matrix, name: str) -> Float32Array:
    try:
        return matrix.values()
    except DocumentError as exc:
        raise DocumentError(f"{name}.{exc}") from exc
