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
        padded = np.pad(window, ((reach, reach), (0, 0)), mode="reflect")
        padded = np.concatenate((padded, padded[-1:]))
        first = _sorted_blocks(padded, self._half_length)
        second = [rank[self._half_length :] for rank in first]
        n_out = len(window)
        first = [rank[:n_out] for rank in first]
        # Of first + second, 2 h frames, the frame after the filter's last is one too many.
        surplus = padded[self.n_frames : self.n_frames + n_out]
        lower, upper = _middle_pair(first, second)
        return np.where(surplus > lower, lower, upper)


def _sorted_blocks(frames: Float32Array, length: int) -> list[Float32Array]:
    """Sort every run of *length* consecutive frames.

    Args:
        frames: Shape ``(n_frames, n_mels)``.
        length: A power of two.

    Returns:
        *length* arrays of shape ``(n_frames - length + 1, n_mels)``, the smallest values first.
    """
    ranks = [frames]
    while len(ranks) < length:
        half = len(ranks)
        n_blocks = len(ranks[0]) - half
        ranks = _merge([rank[:n_blocks] for rank in ranks], [rank[half:] for rank in ranks])
    return ranks


def _merge(low: list[Float32Array], high: list[Float32Array]) -> list[Float32Array]:
    """Merge two sorted lists of equal length, a power of two, by Batcher's odd-even merge."""
    if len(low) == 1:
        return [np.minimum(low[0], high[0]), np.maximum(low[0], high[0])]
    even = _merge(low[::2], high[::2])
    odd = _merge(low[1::2], high[1::2])
    merged = [even[0]]
    for left, right in zip(odd[:-1], even[1:], strict=True):
        merged += [np.minimum(left, right), np.maximum(left, right)]
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
    for pair in pairs[1:]:
        np.maximum(lower, np.minimum(*pair), out=lower)
        np.minimum(upper, np.maximum(*pair), out=upper)
    return lower, upper
