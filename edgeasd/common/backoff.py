"""When to try again what failed: soon at first, then ever less often; reads no clock."""

from __future__ import annotations

import math
import random

_LEAST_SHARE = 0.75
"""Waits are shortened at random to between this share and all of them, so that those who failed
together do not try again together."""


class BackOff:
    """Doubles the wait at each failure, up to a longest one.

    Args:
        first_s: Seconds to wait after the first failure.
        longest_s: Longest wait; a failure after so long a time without one counts as the first.

    Attributes:
        n_failures: Number of failures so far.
        delay_s: Wait after the latest failure before it was shortened at random, seconds.
    """

    def __init__(self, first_s: float = 1.0, longest_s: float = 60.0) -> None:
        self.n_failures = 0
        self.delay_s = 0.0
        self._first_s = first_s
        self._longest_s = longest_s
        self._due_s = -math.inf

    def fail(self, now_s: float) -> float:
        """Take note of a failure at *now_s*, and return the seconds to wait from then on."""
        if now_s - self._due_s > self._longest_s:
            self.reset()
        self.delay_s = min(2.0 * self.delay_s, self._longest_s) or self._first_s
        wait_s = self.delay_s * random.uniform(_LEAST_SHARE, 1.0)
        self._due_s = now_s + wait_s
        self.n_failures += 1
        return wait_s

    def is_due(self, now_s: float) -> bool:
        """Return whether it is time to try again."""
        return now_s >= self._due_s

    def reset(self) -> None:
        """Take note that all is well: the next failure counts as the first one again."""
        self.delay_s = 0.0
