"""Cuts of a stream into blocks: every stage must give the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from edgeasd.stream import AudioBlock, Float32Array

BLOCK_LENGTHS = (1, 17, 512, 1000, 10**9)


def cut_every(samples: Float32Array, length: int, first_sample: int = 0) -> list[AudioBlock]:
    """Return *samples* as blocks of *length*, the last one shorter."""
    return cut_at(samples, range(length, len(samples), length), first_sample)


def cut_at(samples: Float32Array, places: Sequence[int], first_sample: int = 0) -> list[AudioBlock]:
    """Return *samples* as blocks that end at the rising *places*, and at the end."""
    starts = [0, *places]
    stops = [*places, len(samples)]
    return [
        AudioBlock(samples[start:stop].copy(), first_sample + start)
        for start, stop in zip(starts, stops, strict=True)
    ]


def cuts(length: int, max_cuts: int = 12) -> st.SearchStrategy[list[int]]:
    """Draw rising places between 0 and *length*, also equal ones, which give empty blocks."""
    return st.lists(st.integers(0, length), max_size=max_cuts).map(sorted)


def noise(n_samples: int, level: float = 0.1, seed: int = 0) -> Float32Array:
    """Return white noise of standard deviation *level*, shape ``(n_samples,)``."""
    return np.random.default_rng(seed).normal(0.0, level, n_samples).astype(np.float32)
