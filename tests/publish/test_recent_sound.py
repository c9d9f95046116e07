"""Tests of the memory of the latest sound."""

from __future__ import annotations

import numpy as np
import pytest

from edgeasd.common.types import INT16_FULL_SCALE, AudioBlock, Float32Array, Int16Array
from edgeasd.publish.clips.recent_sound import RecentSound


def block(values: Int16Array, first_sample: int) -> AudioBlock:
    """Return samples as a source delivers them."""
    samples: Float32Array = values.astype(np.float32) / np.float32(INT16_FULL_SCALE)
    return AudioBlock(samples, first_sample)


@pytest.mark.parametrize("length", [1, 17, 64, 100, 250])
def test_history_gives_back_the_latest_samples_bit_for_bit(
    length: int, rng: np.random.Generator
) -> None:
    """However the sound was cut, what is kept is what was heard."""
    sound = rng.integers(-32_768, 32_768, 1000).astype(np.int16)
    history = RecentSound(100)

    for start in range(0, len(sound), length):
        history.process(block(sound[start : start + length], start))

    np.testing.assert_array_equal(history.cut(900, 1000), sound[900:])
    np.testing.assert_array_equal(history.cut(0, 950), sound[900:950])
    assert history.cut(0, 900).size == 0
    np.testing.assert_array_equal(history.cut(990, 5000), sound[990:])


@pytest.mark.parametrize("n_lost", [1, 30, 99, 100, 101, 5000])
def test_history_has_silence_where_sound_was_lost(n_lost: int) -> None:
    """A gap keeps its length, so that positions stay times."""
    history = RecentSound(100)
    ones = np.ones(60, np.int16)
    history.process(block(ones, 0))

    history.process(block(ones[:20], 60 + n_lost))

    end = 80 + n_lost
    expected = np.concatenate([ones, np.zeros(n_lost, np.int16), ones[:20]])[-100:]
    np.testing.assert_array_equal(history.cut(0, end), expected)


def test_history_of_a_stream_that_begins_later_does_not_invent_its_beginning() -> None:
    """Before the first sample there was no sound."""
    history = RecentSound(100)
    history.process(block(np.ones(10, np.int16), 500))

    assert history.cut(0, 1000).tolist() == [1] * 10


def test_history_empty_has_nothing() -> None:
    """Nothing was heard."""
    assert RecentSound(10).cut(0, 10).size == 0


def test_history_without_room_is_refused() -> None:
    """It must hold something."""
    with pytest.raises(ValueError, match="capacity=0 must be at least 1"):
        RecentSound(0)
