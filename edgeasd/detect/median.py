"""Median filter along time, per mel bin, inside one window.

Cai et al. (DCASE 2021), section 2.4, put it in front of the network to take out short noises.
"""

from __future__ import annotations

import numpy as np

from edgeasd.common.types import Float32Array


class MedianFilter:
    """Running median along time with reflected edges, exact.

    Equal to ``scipy.ndimage.median_filter(window, (n_frames, 1), mode="mirror")`` bit for bit.

    Two neighbouring outputs look at the same ``n_frames + 1`` frames but one each, so both follow
    from the two middle values of these.  It sorts blocks of 2, 4, 8, ... frames at every *second*
    offset by merging two sorted blocks of half the length, so that outputs share their work, and
    every step is one ``minimum`` or ``maximum`` over all offsets and mel bins at once.

    Args:
        n_frames: Length of the filter, odd; 1 passes windows through.

    Raises:
        ValueError: If *n_frames* is not one less than a power of two.

    References:
        Batcher (1968), Sorting networks and their applications: the bitonic sorter.
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
        # Reflected without the edge frame itself; outputs come in pairs, the last one of an odd
        # number of them with one for which any frame will do.
        head, tail = window[reach:0:-1], window[-2 : -2 - reach : -1]
        surplus = window[: len(window) % 2]
        padded = np.concatenate((head, window, tail, surplus))
        lower, upper = self._middle_pairs(padded)
        n_pairs, n_mels = lower.shape
        filtered = np.empty((n_pairs, 2, n_mels), np.float32)
        # Of the frames behind a pair, the last one is too many for the first output of the pair,
        # and the first one for the second output.
        for place, first in ((0, self.n_frames), (1, 0)):
            too_many = padded[first : first + 2 * n_pairs : 2]
            filtered[:, place] = np.where(too_many > lower, lower, upper)
        return filtered.reshape(-1, n_mels)[: len(window)]

    def _middle_pairs(self, padded: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Return the two middle values of every second run of ``n_frames + 1`` frames.

        Args:
            padded: Shape ``(n_padded, n_mels)``, an even number of frames.

        Returns:
            Both of shape ``((n_padded - n_frames + 1) // 2, n_mels)``.
        """
        n_mels = padded.shape[1]
        ranks = _sorted_blocks(padded, self._half_length, self._scratch)
        shift = self._half_length // 2 * n_mels
        n_values = ranks.shape[1] - shift
        # Against the reverse of the second block, the minima are the lower half of both blocks and
        # the maxima the upper half: the first step of a merge is all that is needed of it.
        low, high = ranks[:, :n_values], ranks[::-1, shift:]
        either = self._scratch.take(len(ranks), n_values)
        lower = np.minimum(low, high, out=either).max(axis=0)
        upper = np.maximum(low, high, out=either).min(axis=0)
        return lower.reshape(-1, n_mels), upper.reshape(-1, n_mels)


class _Scratch:
    """Two arrays in turn, used again and again: fresh ones cost page faults at every window."""

    def __init__(self) -> None:
        self._this = self._other = np.empty(0, np.float32)

    def take(self, n_rows: int, n_columns: int) -> Float32Array:
        """Return an array of any content; it is good until the call after the next."""
        self._this, self._other = self._other, self._this
        if self._this.size < n_rows * n_columns:
            self._this = np.empty(n_rows * n_columns, np.float32)
        return self._this[: n_rows * n_columns].reshape(n_rows, n_columns)


def _sorted_blocks(frames: Float32Array, length: int, scratch: _Scratch) -> Float32Array:
    """Sort the runs of *length* frames that begin at every second frame.

    Args:
        frames: Shape ``(n_frames, n_mels)``, an even number of frames.
        length: A power of two, at least 2.
        scratch: Where to take the results from.

    Returns:
        Shape ``(length, n_blocks * n_mels)``, the smallest values first, where ``n_blocks`` is
        ``(n_frames - length) // 2 + 1``.
    """
    n_mels = frames.shape[1]
    even, odd = frames[::2], frames[1::2]
    ranks = scratch.take(2, even.size)
    np.minimum(even, odd, out=ranks[0].reshape(even.shape))
    np.maximum(even, odd, out=ranks[1].reshape(even.shape))
    while len(ranks) < length:
        ranks = _merge(ranks, len(ranks) // 2 * n_mels, scratch)
    return ranks


def _merge(ranks: Float32Array, shift: int, scratch: _Scratch) -> Float32Array:
    """Merge each sorted block with the one that stands *shift* columns after it.

    Args:
        ranks: Sorted along the first axis, shape ``(length, n_columns)``.
        shift: Columns between two blocks.
        scratch: Where to take the results from.

    Returns:
        Shape ``(2 * length, n_columns - shift)``.
    """
    length, n_values = len(ranks), ranks.shape[1] - shift
    merged = scratch.take(2 * length, n_values)
    low, high = ranks[:, :n_values], ranks[::-1, shift:]
    np.minimum(low, high, out=merged[:length])
    np.maximum(low, high, out=merged[length:])
    step = length // 2
    while step:
        halves = merged.reshape(-1, 2, step, n_values)
        merged = scratch.take(2 * length, n_values)
        sorted_halves = merged.reshape(-1, 2, step, n_values)
        np.minimum(halves[:, 0], halves[:, 1], out=sorted_halves[:, 0])
        np.maximum(halves[:, 0], halves[:, 1], out=sorted_halves[:, 1])
        step //= 2
    return merged
