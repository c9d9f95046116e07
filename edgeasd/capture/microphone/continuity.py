"""Whether a block of a device follows the one before it, by the device's word and the clock."""

from __future__ import annotations


class Continuity:
    """Finds how many samples are lost before each block of a device that is read block by block.

    A device that stood still may have lost the sound of that time, or deliver it late, in a hurry;
    PulseAudio does the latter, by 5 s after a stop of 5 s.  So that a position always tells the
    time, sound that comes late is dropped like sound that is lost: until a read has to wait, which
    shows that the block is of now.

    Args:
        sample_rate: Hertz.
        patience_s: A longer wait for a block means that the device stood still.
        now_s: Time, of any clock that does not jump.
    """

    def __init__(self, sample_rate: int, patience_s: float, now_s: float) -> None:
        self._sample_rate = sample_rate
        self._patience_s = patience_s
        self._kept_s = now_s
        self._n_dropped = 0
        self._catching_up = False

    def n_lost_before(
        self, n_samples: int, asked_s: float, now_s: float, *, lost: bool
    ) -> int | None:
        """Return how many samples are lost before the block of *n_samples* that was just read.

        Args:
            n_samples: Length of the block.
            asked_s: Time before the read.
            now_s: Time after the read.
            lost: Whether the device says that sound was lost, or was opened anew.

        Returns:
            0 if the block follows the last one that was kept; None if it is stale, to be dropped.
        """
        waited_s = now_s - asked_s
        stood_still = lost or waited_s > self._patience_s
        if not stood_still and not self._catching_up:
            self._kept_s = now_s
            return 0
        n_passed = round((now_s - self._kept_s) * self._sample_rate)
        of_now = not stood_still and waited_s > n_samples / self._sample_rate / 2.0
        # No more sound than time has passed can be late.
        self._catching_up = not of_now and self._n_dropped + n_samples < n_passed
        if self._catching_up:
            self._n_dropped += n_samples
            return None
        self._kept_s = now_s
        self._n_dropped = 0
        return max(1, n_passed - n_samples)
