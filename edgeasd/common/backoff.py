"""When to try again what failed: at once at first, then ever more seldom; pure."""

from __future__ import annotations

import math


class BackOff:
    """Doubles the wait at each failure, unless all was well for long before it.

    Args:
        first_s: Seconds to wait after the first failure.
        longest_s: Longest wait; after so long without a failure the next one is the first again.

    Attributes:
        n_failures: How many there were.
    """

    def __init__(self, first_s: float = 1.0, longest_s: float = 60.0) -> None:
        self.n_failures = 0
        self._first_s = first_s
        self._longest_s = longest_s
        self._delay_s = 0.0
        self._due_s = -math.inf

    def fail(self, now_s: float) -> None:
        """Take note of a failure at *now_s*."""
        was_well = now_s - self._due_s > self._longest_s
        self._delay_s = self._first_s if was_well else min(2 * self._delay_s, self._longest_s)
        self._due_s = now_s + self._delay_s
        self.n_failures += 1

    def is_due(self, now_s: float) -> bool:
        """Return whether it is time to try again."""
        return now_s >= self._due_s
