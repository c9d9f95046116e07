"""The streaming resampler equals the offline one, and keeps positions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeasd.common.resampler import Resampler
from edgeasd.common.types import AudioBlock, Float32Array

RATES = (8_000, 22_050, 44_100, 48_000, 96_000)


def noise(n_samples: int) -> Float32Array:
    """Return white noise, the same every time."""
    return np.random.default_rng(7).uniform(-0.5, 0.5, n_samples).astype(np.float32)


def stream(
    resampler: Resampler, samples: Float32Array, cuts: list[int], first_sample: int = 0
) -> list[AudioBlock]:
    """Return the blocks that *samples* give when fed in the sizes *cuts*, and the rest at once."""
    blocks = []
    edges = [0, *np.minimum(np.cumsum(cuts, dtype=int), samples.size).tolist(), samples.size]
    for start, end in itertools.pairwise(edges):
        blocks.append(resampler.process(AudioBlock(samples[start:end], first_sample + start)))
    blocks.append(resampler.flush())
    return blocks


def joined(blocks: list[AudioBlock]) -> Float32Array:
    """Return the samples of consecutive *blocks*, checking that they are consecutive."""
    position = blocks[0].first_sample
    for block in blocks:
        assert block.first_sample == position
        position += block.samples.size
    return np.concatenate([block.samples for block in blocks])


@pytest.mark.parametrize("in_rate", RATES)
@pytest.mark.parametrize("cut", [1, 17, 160, 1000, 24_000])
def test_resampler_streamed_equals_offline(in_rate: int, cut: int) -> None:
    """Output does not depend on block size, and is that of soxr on the whole, bit for bit."""
    samples = noise(24_000)
    expected = soxr.resample(samples, in_rate, 16_000, quality="HQ")

    actual = joined(stream(Resampler(in_rate, 16_000), samples, [cut] * (samples.size // cut)))

    assert actual.dtype == np.float32
    assert np.array_equal(actual, expected)


@given(
    in_rate=st.sampled_from(RATES),
    cuts=st.lists(st.integers(0, 3000), max_size=10),
    n_samples=st.integers(0, 9000),
)
@settings(deadline=None)
def test_resampler_any_cut_and_length_equals_offline(
    in_rate: int, cuts: list[int], n_samples: int
) -> None:
    """Irregular and empty blocks and any length give soxr's output on the whole."""
    samples = noise(n_samples)
    expected = soxr.resample(samples, in_rate, 16_000, quality="HQ")

    actual = joined(stream(Resampler(in_rate, 16_000), samples, cuts))

    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("in_rate", RATES)
def test_resampler_tone_keeps_its_phase(in_rate: int) -> None:
    """Output sample n lies at the time of input sample n * in_rate / out_rate."""
    times_s = np.arange(in_rate) / in_rate
    samples = np.sin(2.0 * np.pi * 1_000.0 * times_s).astype(np.float32)
    expected = np.sin(2.0 * np.pi * 1_000.0 * np.arange(16_000) / 16_000)

    actual = joined(stream(Resampler(in_rate, 16_000), samples, []))

    # HQ passes with 20 bits; away from the ends, where the tone is switched.
    assert actual.size == 16_000
    assert np.max(np.abs(actual - expected)[2000:-2000]) < 1e-5


def test_resampler_equal_rates_pass_untouched() -> None:
    """At the model's own rate the very block goes through, gap or not."""
    resampler = Resampler(16_000, 16_000)
    blocks = [AudioBlock(noise(100), 0), AudioBlock(noise(50), 777)]

    results = [resampler.process(block) for block in blocks]
    rest = resampler.flush()

    assert results[0] is blocks[0]
    assert results[1] is blocks[1]
    assert (rest.samples.size, rest.first_sample) == (0, 827)


@pytest.mark.parametrize("in_rate", RATES)
def test_resampler_gap_starts_anew_after_it(in_rate: int) -> None:
    """After a gap the output is that of a new stream at the position after the gap."""
    resampler = Resampler(in_rate, 16_000)
    samples = noise(9_000)
    before = resampler.process(AudioBlock(samples, 0))
    start = 123_457

    after = joined(stream(resampler, samples, [500, 500], first_sample=start))
    first = start * 16_000 // in_rate

    assert before.first_sample == 0
    assert before.samples.size < first
    assert np.array_equal(after, soxr.resample(samples, in_rate, 16_000, quality="HQ"))


@pytest.mark.parametrize("in_rate", RATES)
def test_resampler_gap_position_is_that_of_the_input(in_rate: int) -> None:
    """The first output after a gap stands at the time of the first input after it."""
    resampler = Resampler(in_rate, 16_000)
    resampler.process(AudioBlock(noise(9_000), 0))

    block = resampler.process(AudioBlock(noise(9_000), 123_457))

    assert block.first_sample == 123_457 * 16_000 // in_rate


@pytest.mark.parametrize("in_rate", RATES)
@pytest.mark.parametrize("jump", [1, 2, 5, -1, -4000])
@pytest.mark.parametrize("n_before", [0, 1, 5, 4000])
def test_resampler_smallest_gap_is_seen_and_never_overlaps(
    in_rate: int, jump: int, n_before: int
) -> None:
    """Even the loss of one sample moves the output forward by at least one."""
    resampler = Resampler(in_rate, 16_000)
    before = resampler.process(AudioBlock(noise(n_before), 0))

    after = resampler.process(AudioBlock(noise(4000), n_before + jump))

    assert after.first_sample > before.first_sample + before.samples.size


def test_resampler_stream_may_start_anywhere() -> None:
    """A stream that begins late keeps its place."""
    resampler = Resampler(48_000, 16_000)

    block = resampler.process(AudioBlock(noise(4_800), 30_001))

    assert block.first_sample == 10_000


def test_resampler_reset_is_as_new() -> None:
    """After `reset`, and after `flush`, a resampler behaves as a new one."""
    used = Resampler(44_100, 16_000)
    samples = noise(5_000)
    used.process(AudioBlock(samples, 99))
    used.reset()

    first = joined(stream(used, samples, [100]))
    second = joined(stream(used, samples, [100]))
    expected = joined(stream(Resampler(44_100, 16_000), samples, [100]))

    assert np.array_equal(first, expected)
    assert np.array_equal(second, expected)


def test_resampler_flush_of_nothing_is_empty() -> None:
    """A stream without a block ends without a sample."""
    rest = Resampler(44_100, 16_000).flush()

    assert (rest.samples.size, rest.first_sample) == (0, 0)


def test_resampler_impossible_rate_is_refused() -> None:
    """A rate is positive."""
    with pytest.raises(ValueError, match=r"^in_rate=0 and out_rate=16000 must be at least 1$"):
        Resampler(0, 16_000)
