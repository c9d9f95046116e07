"""Numbers in rows: arrays in memory, base64 in files."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from edgeasd.common.documents.reading import DocumentError, ReadAs, rule
from edgeasd.common.types import Float64Array

MOST_ROWS = 4096
"""Most rows of a matrix, and most columns.  For the method ``nearest``, which compares references
with each other, this many take 128 MB."""


class Matrix:
    """Numbers in rows, such as embeddings of normal sound; they never change.

    Args:
        values: Shape ``(n_rows, n_columns)``; rounded to float32, as in files.

    Attributes:
        values: The same as float64, read-only.  Scoring multiplies in double precision, and so uses
            this array without a copy.
    """

    __slots__ = ("values",)

    def __init__(self, values: npt.ArrayLike) -> None:
        self.values: Float64Array = np.asarray(values, np.float32).astype(np.float64, order="C")
        self.values.setflags(write=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows and of columns."""
        return self.values.shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrix) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())

    def __repr__(self) -> str:
        # Every number: scores kept from an interrupted calibration are recognised by this text.
        shape, float32 = self.to_table().values()
        return f"Matrix({shape=}, {float32=})"

    def extended(self, more: Matrix) -> Matrix:
        """Return the rows of this matrix followed by those of *more*.

        Raises:
            DocumentError: If they differ in the number of columns, or there would be too many rows.
        """
        n_rows, n_columns = self.shape
        if more.shape[1] != n_columns:
            raise DocumentError(f"references have {more.shape[1]} columns, not {n_columns}")
        if n_rows + more.shape[0] > MOST_ROWS:
            raise DocumentError(f"references={n_rows + more.shape[0]} must be at most {MOST_ROWS}")
        return Matrix(np.concatenate((self.values, more.values)))

    def to_table(self) -> dict[str, Any]:
        """Return the matrix as it is written to files."""
        content = self.values.astype("<f4").tobytes()
        return {"shape": self.shape, "float32": base64.b64encode(content).decode("ascii")}


@dataclass(frozen=True, slots=True)
class EncodedMatrix:
    """Numbers in rows."""

    shape: Annotated[
        tuple[int, ...],
        rule(
            lambda value: len(value) == 2 and min(value) > 0 and max(value) <= MOST_ROWS,  # noqa: PLR2004
            f"two numbers from 1 to {MOST_ROWS}",
            minItems=2,
            maxItems=2,
            items={"type": "integer", "minimum": 1, "maximum": MOST_ROWS},
        ),
    ]
    """Number of rows and of columns."""
    float32: Annotated[
        str,
        # `decoded` checks it.
        rule(lambda _: True, "base64", contentEncoding="base64", pattern="^[A-Za-z0-9+/]*={0,2}$"),
    ]
    """The values in row order, little-endian float32, base64; finite."""

    def decoded(self) -> Matrix:
        """Return the matrix.

        Raises:
            ValueError: If the text is not base64 of as many numbers as the shape says.
        """
        try:
            flat = np.frombuffer(base64.b64decode(self.float32, validate=True), "<f4")
            return Matrix(flat.reshape(self.shape))
        except ValueError as exc:
            raise ValueError(
                f"{{name}}.float32 must be base64 of {self.shape} float32 values"
            ) from exc


StoredMatrix = Annotated[Matrix, ReadAs(EncodedMatrix, EncodedMatrix.decoded)]
"""Type of a matrix in a document."""
