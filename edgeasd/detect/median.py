"""Median filter along time, per mel bin, inside one window.

Cai et al. (DCASE 2021), section 2.4, apply it before the network to remove short noises.
"""

from __future__ import annotations

import numpy as np

from edgeasd.common.types import Float32Array


class MedianFilter:
    """Exact running median along time with reflected edges.

    Equals ``scipy.ndimage.median_filter(window, (n_frames, 1), mode="mirror")`` bit for bit.

    Two neighbouring outputs share all but one of their frames.  Both follow from the two middle
    values of the ``n_frames + 1`` frames that they cover together.  The filter sorts blocks of 2,
    4, 8, ... frames at every *second* offset by merging two sorted blocks of half the length.  So
    outputs share work, and each step is one ``minimum`` or ``maximum`` over all offsets and mel
    bins.

    Args:
        n_frames: Length of the filter, odd; 1 returns windows unchanged.

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
            window: Shape ``(window_frames, n_mels)``, dB, where ``window_frames`` exceeds half
                of the length of the filter.

        Returns:
            Array of the same shape.

        Raises:
            ValueError: If the window is too short for the reflection at its edges.
        """
        reach = self.n_frames // 2
        if reach == 0:
            return window
        if len(window) <= reach:
            raise ValueError(f"len(window)={len(window)} must be more than {reach}")
        # Reflected without the edge frame itself.  Outputs come in pairs, so an odd number of them
        # is padded by one frame, whose value does not matter.
        head, tail = window[reach:0:-1], window[-2 : -2 - reach : -1]
        surplus = window[: len(window) % 2]
        padded = np.concatenate((head, window, tail, surplus))
        lower, upper = self._middle_pairs(padded)
        n_pairs, n_mels = lower.shape
        filtered = np.empty((n_pairs, 2, n_mels), np.float32)
        # The last frame of a pair does not belong to its first output, and the first frame does
        # not belong to its second.
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
        # Compared with the reverse of the second block, the minima are the lower half of both
        # blocks and the maxima the upper half: only the first step of the merge is needed.
        low, high = ranks[:, :n_values], ranks[::-1, shift:]
        either = self._scratch.take(len(ranks), n_values)
        lower = np.minimum(low, high, out=either).max(axis=0)
        upper = np.maximum(low, high, out=either).min(axis=0)
        return lower.reshape(-1, n_mels), upper.reshape(-1, n_mels)


class _Scratch:
    """Two arrays that are used in turn, because new ones would cost page faults at each window."""

    def __init__(self) -> None:
        self._this = self._other = np.empty(0, np.float32)

    def take(self, n_rows: int, n_columns: int) -> Float32Array:
        """Return an array with arbitrary content; it stays valid until the call after the next."""
        self._this, self._other = self._other, self._this
        if self._this.size < n_rows * n_columns:
            self._this = np.empty(n_rows * n_columns, np.float32)
        return self._this[: n_rows * n_columns].reshape(n_rows, n_columns)


def _sorted_blocks(frames: Float32Array, length: int, scratch: _Scratch) -> Float32Array:
    """Sort the runs of *length* frames that begin at every second frame.

    Args:
        frames: Shape ``(n_frames, n_mels)``, an even number of frames.
        length: A power of two, at least 2.
        scratch: Provides the arrays for the results.

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
    """Merge each sorted block with the block *shift* columns after it.

    Args:
        ranks: Sorted along the first axis, shape ``(length, n_columns)``.
        shift: Columns between two blocks.
        scratch: Provides the arrays for the results.

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
