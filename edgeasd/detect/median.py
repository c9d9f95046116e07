"""Median filter along time, per mel bin, inside one window.

Cai et al. (DCASE 2021), section 2.4, put it in front of the network to take out short noises.
"""

from __future__ import annotations

import numpy as np

from edgeasd.stream import Float32Array


class MedianFilter:
    """Running median along time with reflected edges, exact.

    Equal to ``scipy.ndimage.median_filter(window, (n_frames, 1), mode="mirror")`` bit for bit.  It
    sorts blocks of 1, 2, 4, ... frames at *every* offset by merging two sorted blocks of half the
    length, so that each output shares its work with its neighbours, and every step is one
    ``minimum`` or ``maximum`` over all offsets and mel bins at once.

    Args:
        n_frames: Length of the filter, odd; 1 passes windows through.

    Raises:
        ValueError: If *n_frames* is not one less than a power of two.

    References:
        Batcher (1968), Sorting networks and their applications: the odd-even merge.
    """

    def __init__(self, n_frames: int) -> None:
        if n_frames < 1 or (n_frames + 1) & n_frames:
            raise ValueError(f"n_frames={n_frames} must be one less than a power of two")
        self.n_frames = n_frames
        self._half_length = (n_frames + 1) // 2
        self._scratch = _Scratch()

    def process(self, window: Float32Array) -> Float32Array:
        """Return the filtered *window*.

        Args:
            window: Shape ``(window_frames, n_mels)``, dB, with ``window_frames`` more than half
                of the filter's length.

        Returns:
            The same shape.

        Raises:
            ValueError: If the window is shorter than the reflection at its edges needs.
        """
        reach = self.n_frames // 2
        if reach == 0:
            return window
        if len(window) <= reach:
            raise ValueError(f"len(window)={len(window)} must be more than {reach}")
        # Reflected without the edge frame itself, and one frame more than the filter needs at the
        # end: it is in the last block of sorted frames, but taken out again below.
        head, tail = window[reach:0:-1], window[-2 : -2 - reach : -1]
        padded = np.concatenate((head, window, tail, tail[-1:]))
        self._scratch.fit(padded)
        first = _sorted_blocks(padded, self._half_length, self._scratch)
        second = [rank[self._half_length :] for rank in first]
        n_out = len(window)
        # Of first + second, 2 h frames, the frame after the filter's last is one too many.
        surplus = padded[self.n_frames : self.n_frames + n_out]
        lower, upper = _middle_pair([rank[:n_out] for rank in first], second)
        for rank in first:
            self._scratch.give(rank)
        return np.where(surplus > lower, lower, upper)


class _Scratch:
    """Arrays to work in, used again and again: fresh ones cost page faults at every window."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._free: list[Float32Array] = []

    def fit(self, example: Float32Array) -> None:
        """Hand out arrays like *example* from now on."""
        if example.shape != self._shape:
            self._shape = example.shape
            self._free = []

    def take(self, n_rows: int) -> Float32Array:
        """Return an array of *n_rows* rows, of any content."""
        whole = self._free.pop() if self._free else np.empty(self._shape, np.float32)
        return whole[:n_rows]

    def give(self, array: Float32Array) -> None:
        """Take *array* back."""
        whole = array.base
        if whole is not None and whole.shape == self._shape:
            self._free.append(whole)


def _sorted_blocks(frames: Float32Array, length: int, scratch: _Scratch) -> list[Float32Array]:
    """Sort every run of *length* consecutive frames.

    Args:
        frames: Shape ``(n_frames, n_mels)``.
        length: A power of two.
        scratch: Where to take the results from.

    Returns:
        *length* arrays of shape ``(n_frames - length + 1, n_mels)``, the smallest values first.
    """
    ranks = [frames]
    while len(ranks) < length:
        half = len(ranks)
        n_blocks = len(ranks[0]) - half
        low, high = [rank[:n_blocks] for rank in ranks], [rank[half:] for rank in ranks]
        merged = _merge(low, high, scratch)
        for rank in ranks:
            scratch.give(rank)
        ranks = merged
    return ranks


def _merge(
    low: list[Float32Array], high: list[Float32Array], scratch: _Scratch
) -> list[Float32Array]:
    """Merge two sorted lists of equal length, a power of two, by Batcher's odd-even merge."""
    n_rows = len(low[0])
    if len(low) == 1:
        return [
            np.minimum(low[0], high[0], out=scratch.take(n_rows)),
            np.maximum(low[0], high[0], out=scratch.take(n_rows)),
        ]
    even = _merge(low[::2], high[::2], scratch)
    odd = _merge(low[1::2], high[1::2], scratch)
    merged = [even[0]]
    for left, right in zip(odd[:-1], even[1:], strict=True):
        smaller = np.minimum(left, right, out=scratch.take(n_rows))
        merged += [smaller, np.maximum(left, right, out=right)]
        scratch.give(left)
    return [*merged, odd[-1]]


def _middle_pair(
    low: list[Float32Array], high: list[Float32Array]
) -> tuple[Float32Array, Float32Array]:
    """Return the two middle values of the union of two sorted lists of equal length.

    Paired against each other's reverse, the minima are the lower half of the union and the maxima
    the upper half (the first step of a bitonic merge), so only their extremes are needed.
    """
    pairs = list(zip(low, reversed(high), strict=True))
    lower, upper = np.minimum(*pairs[0]), np.maximum(*pairs[0])
    either = np.empty_like(lower)
    for pair in pairs[1:]:
        np.maximum(lower, np.minimum(*pair, out=either), out=lower)
        np.minimum(upper, np.maximum(*pair, out=either), out=upper)
    return lower, upper
