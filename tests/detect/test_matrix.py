"""Tests of numbers in rows: arrays in memory, base64 in files."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from edgeasd.common.documents.reading import DocumentError, read_table
from edgeasd.detect.model.matrix import EncodedMatrix, Matrix


def test_matrix_round_trip_keeps_every_bit() -> None:
    """Numbers come back from base64 as they went in, even if they were not in C order."""
    embeddings = np.asfortranarray(np.random.default_rng(0).standard_normal((5, 3)))

    encoded = json.loads(json.dumps(Matrix(embeddings).to_table()))
    matrix = read_table(EncodedMatrix, encoded).decoded()

    assert matrix.shape == (5, 3)
    np.testing.assert_array_equal(matrix.values, embeddings.astype(np.float32))
    assert matrix == Matrix(embeddings)
    assert hash(matrix) == hash(Matrix(embeddings))


def test_matrix_in_a_file_is_little_endian_float32_in_row_order() -> None:
    """The bytes behind the base64 are what the schema says, for readers in other languages."""
    table = Matrix([[1.0, 2.0], [3.0, 4.0]]).to_table()

    assert table["shape"] == (2, 2)
    assert base64.b64decode(table["float32"]) == np.array([1, 2, 3, 4], "<f4").tobytes()


def test_matrix_holds_the_numbers_that_its_file_will_hold() -> None:
    """What is learned scores as it will once it was written and read again."""
    assert Matrix([[0.1]]).values.tolist() == [[float(np.float32(0.1))]]


def test_matrix_shares_no_memory_and_is_read_only() -> None:
    """Nobody changes what all machines of a model score by."""
    numbers = np.ones((2, 2))
    matrix = Matrix(numbers)
    numbers[0] = 7.0

    assert matrix == Matrix(np.ones((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        matrix.values[0] = 7.0


def test_matrices_of_other_numbers_or_shape_differ() -> None:
    """Equality is by shape and numbers, and so is the text that recognises kept scores."""
    matrix = Matrix([[1.0, 2.0]])

    assert repr(matrix) == "Matrix(shape=(1, 2), float32='AACAPwAAAEA=')"
    for other in (Matrix([[1.0, 3.0]]), Matrix([[1.0], [2.0]])):
        assert matrix != other
        assert repr(matrix) != repr(other)


def test_matrix_is_extended_by_rows_of_as_many_columns() -> None:
    """Rows are appended, up to the bound; others are refused."""
    matrix = Matrix([[1.0, 2.0]])

    assert matrix.extended(Matrix([[3.0, 4.0]])) == Matrix([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(DocumentError, match=r"^references have 1 columns, not 2$"):
        matrix.extended(Matrix([[3.0]]))
    with pytest.raises(DocumentError, match=r"^references=4097 must be at most 4096$"):
        matrix.extended(Matrix(np.zeros((4096, 2))))
