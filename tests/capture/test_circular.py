"""The latest samples come back by their position, wherever the array wraps around."""

from __future__ import annotations

import numpy as np
import pytest

from edgeasd.capture.circular import CircularArray


@pytest.mark.parametrize("length", [1, 3, 7, 10])
def test_circular_array_gives_back_the_latest_samples(length: int) -> None:
    """Any part of as many as fit, however they were cut when written."""
    sound = np.arange(1, 71, dtype=np.int16)
    array = CircularArray(10)

    for end in range(length, 71, length):
        array.write(end - length, sound[end - length : end])
        oldest = max(0, end - 10)
        for first in range(oldest, end + 1):
            part = array.read(first, end - first)
            np.testing.assert_array_equal(part, sound[first:end])


def test_circular_array_gives_a_copy() -> None:
    """What was read does not change when its place is taken."""
    array = CircularArray(2)
    array.write(0, np.array([1, 2], np.int16))
    part = array.read(0, 2)

    array.write(2, np.array([3, 4], np.int16))

    assert part.tolist() == [1, 2]


def test_circular_array_of_no_capacity_raises() -> None:
    """It could hold nothing."""
    with pytest.raises(ValueError, match="capacity=0 must be at least 1"):
        CircularArray(0)
