"""A stream becomes clips without a sample lost or twice, and what is not fit is kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.offline.recordings.cutter import CLIP_S, Cutter, Stretch

RATE = 800
CLIP = CLIP_S * RATE


def cut(samples: Float32Array, block: int, first_sample: int = 0) -> list[Stretch]:
    """What a new cutter makes of *samples*."""
    cutter = Cutter(RATE)
    return [
        stretch
        for start in range(0, len(samples), block)
        for stretch in cutter.process(
            AudioBlock(samples[start : start + block], first_sample + start)
        )
    ]


def noise(n_samples: int, seed: int = 1) -> Float32Array:
    """Sound with nothing wrong."""
    return np.random.default_rng(seed).normal(0, 0.05, n_samples).astype(np.float32)


@pytest.mark.parametrize("block", [1, 17, 1_000, CLIP - 1, CLIP, CLIP + 1, 3 * CLIP + 5])
def test_cutter_gives_every_sample_once_for_every_block_size(block: int) -> None:
    """Whole clips follow each other; the rest waits for more."""
    sound = noise(2 * CLIP + 17)

    stretches = cut(sound, block, first_sample=12_345)

    assert [stretch.flaw for stretch in stretches] == ["", ""]
    assert np.array_equal(np.concatenate([s.samples for s in stretches]), sound[: 2 * CLIP])


def test_cutter_at_a_gap_ends_the_stretch_and_begins_anew() -> None:
    """No clip goes over a gap; what was before it is left out, and the loss is told."""
    cutter = Cutter(RATE)
    sound = noise(2 * CLIP)

    before = cutter.process(AudioBlock(sound[:3_000], 0))
    (gap, clip) = cutter.process(AudioBlock(sound[3_000 : 3_000 + CLIP], 3_400))

    assert before == []
    assert (gap.flaw, gap.samples.size, gap.n_lost) == ("gap", 3_000, 400)
    assert (clip.flaw, clip.n_lost) == ("", 0)
    assert np.array_equal(clip.samples, sound[3_000 : 3_000 + CLIP])


def test_cutter_at_a_gap_between_clips_tells_it_too() -> None:
    """A loss between two clips spoils neither, and is told all the same."""
    cutter = Cutter(RATE)

    cutter.process(AudioBlock(noise(CLIP), 0))
    (gap,) = cutter.process(AudioBlock(noise(10), CLIP + 8))

    assert (gap.flaw, gap.samples.size, gap.n_lost) == ("gap", 0, 8)


@pytest.mark.parametrize(
    ("flaw", "value"), [("flat_signal", 0.0), ("flat_signal", 0.3), ("clipping", 1.0)]
)
@pytest.mark.parametrize("block", [100, CLIP, 3 * CLIP])
def test_cutter_leaves_out_the_clip_that_is_spoilt_and_no_other(
    flaw: str, value: float, block: int
) -> None:
    """Three flat seconds, or a clipped one in five, spoil their clip; its neighbours are fit."""
    sound = noise(3 * CLIP)
    span = sound[CLIP + 2 * RATE : CLIP + 5 * RATE]
    span[:: 5 if flaw == "clipping" else 1] = value

    assert [stretch.flaw for stretch in cut(sound, block)] == ["", flaw, ""]


def test_cutter_tells_how_much_of_a_clip_is_there() -> None:
    """The progress counts the clip that is being heard."""
    cutter = Cutter(RATE)

    cutter.process(AudioBlock(noise(CLIP + 2 * RATE), 0))

    assert cutter.pending_s == 2.0
