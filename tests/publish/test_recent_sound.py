"""The latest sound is kept by its position, from which clips are cut."""

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
def test_recent_sound_gives_back_the_latest_samples_bit_for_bit(
    length: int, rng: np.random.Generator
) -> None:
    """However the sound was cut into blocks, the samples are those heard."""
    sound = rng.integers(-32_768, 32_768, 1000).astype(np.int16)
    recent = RecentSound(100)

    for start in range(0, len(sound), length):
        recent.process(block(sound[start : start + length], start))

    np.testing.assert_array_equal(recent.cut(900, 1000), sound[900:])
    np.testing.assert_array_equal(recent.cut(0, 950), sound[900:950])
    assert recent.cut(0, 900).size == 0
    np.testing.assert_array_equal(recent.cut(990, 5000), sound[990:])


@pytest.mark.parametrize("n_lost", [1, 30, 99, 100, 101, 5000])
def test_recent_sound_has_silence_where_sound_was_lost(n_lost: int) -> None:
    """A gap keeps its length, so that positions still correspond to times."""
    recent = RecentSound(100)
    ones = np.ones(60, np.int16)
    recent.process(block(ones, 0))

    recent.process(block(ones[:20], 60 + n_lost))

    end = 80 + n_lost
    expected = np.concatenate([ones, np.zeros(n_lost, np.int16), ones[:20]])[-100:]
    np.testing.assert_array_equal(recent.cut(0, end), expected)


def test_recent_sound_of_a_stream_that_begins_later_does_not_invent_its_beginning() -> None:
    """Before the first sample there was no sound."""
    recent = RecentSound(100)
    recent.process(block(np.ones(10, np.int16), 500))

    assert recent.cut(0, 1000).tolist() == [1] * 10


def test_recent_sound_empty_has_nothing() -> None:
    """No sound was heard, so there is none to return."""
    assert RecentSound(10).cut(0, 10).size == 0


def test_recent_sound_without_room_is_refused() -> None:
    """It could keep nothing."""
    with pytest.raises(ValueError, match="capacity=0 must be at least 1"):
        RecentSound(0)
