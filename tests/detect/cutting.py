"""Cuts of a stream into blocks: every stage must give the same for all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from edgeasd.common.types import AudioBlock, Float32Array
from tests.detect.models import faulty_sound, normal_sound

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


KINDS = ("normal", "faulty", "flat", "muted", "clipped", "quiet", "lost")
"""What a stream may hold: sound of the machine, sound that says nothing of it, and none."""


def piece(kind: str, n_samples: int, seed: int) -> Float32Array:
    """Return sound of one of `KINDS`; of ``lost`` nothing."""
    if kind == "lost":
        return np.empty(0, np.float32)
    if kind == "flat":
        return np.full(n_samples, 0.25, np.float32)
    if kind == "muted":
        return (np.round(noise(n_samples, 0.6, seed)) / 32_768).astype(np.float32)
    if kind == "quiet":
        return (np.round(noise(n_samples, 2.5, seed)) / 32_768).astype(np.float32)
    if kind == "clipped":
        return np.clip(noise(n_samples, 0.6, seed), -1.0, 1.0).astype(np.float32)
    return normal_sound(n_samples, seed) if kind == "normal" else faulty_sound(n_samples, seed)


@dataclass(frozen=True)
class Stream:
    """Sound with interruptions.

    Attributes:
        samples: All that is heard, shape ``(n_samples,)``.
        breaks: Rising places in it where 1000 samples were lost.
    """

    samples: Float32Array
    breaks: Sequence[int]

    def blocks(self, places: Sequence[int]) -> list[AudioBlock]:
        """Return it as blocks that end at *places*, wherever they are, and at the breaks."""
        return [
            replace(block, first_sample=at + 1000 * bisect_right(self.breaks, at))
            for block in cut_at(self.samples, sorted({*places, *self.breaks}))
            for at in [block.first_sample]
        ]


def stream_of(pieces: Sequence[tuple[str, int]]) -> Stream:
    """Return the sound of *pieces*, each a kind and a number of samples."""
    sounds = [piece(kind, n, seed) for seed, (kind, n) in enumerate(pieces)]
    ends = np.cumsum([len(sound) for sound in sounds]).tolist()
    breaks = [end for end, (kind, _) in zip(ends, pieces, strict=True) if kind == "lost"]
    samples = np.concatenate(sounds)
    return Stream(samples, sorted({end for end in breaks if 0 < end < len(samples)}))


def streams(longest: int) -> st.SearchStrategy[Stream]:
    """Draw streams of up to ten pieces of up to *longest* samples."""
    one = st.tuples(st.sampled_from(KINDS), st.integers(1, longest))
    return st.lists(one, min_size=2, max_size=10).map(stream_of).filter(lambda s: len(s.samples))
