"""When to try again after a failure: soon at first, then less and less often."""

from __future__ import annotations

import math
import random


class BackOff:
    """Doubles the wait at each failure, unless all was well for long before it.

    Each wait is shortened at random by up to half, so that many computers do not come back to a
    restarted server at the same moment.

    Args:
        first_s: Seconds to wait after the first failure.
        longest_s: Longest wait; after so long without a failure the next one is the first again.

    Attributes:
        n_failures: Failures so far.
    """

    def __init__(self, first_s: float = 1.0, longest_s: float = 60.0) -> None:
        self.n_failures = 0
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s
        self._due_s = -math.inf

    @property
    def next_s(self) -> float:
        """Seconds to wait after the next failure, if it comes soon."""
        return self._next_s

    def fail(self, now_s: float) -> None:
        """Take note of a failure at *now_s*."""
        if now_s - self._due_s > self._longest_s:
            self.reset()
        self._due_s = now_s + self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(2 * self._next_s, self._longest_s)
        self.n_failures += 1

    def reset(self) -> None:
        """Have the next failure count as the first."""
        self._next_s = self._first_s

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until it is time to try again, 0 if it is."""
        return max(0.0, self._due_s - now_s)

    def is_due(self, now_s: float) -> bool:
        """Return whether it is time to try again."""
        return now_s >= self._due_s
