"""A simulated machine as a source of sound, whose bearing fails on a schedule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeasd.capture.pace import Pace
from edgeasd.capture.simulator.rotating_machine import SAMPLE_RATE, RotatingMachine
from edgeasd.common.types import AudioBlock

if TYPE_CHECKING:
    from edgeasd.common.config.keys import SimulatorConfig

_BLOCK = 512  # 32 ms, as a sound card delivers


class Simulator:
    """Section 0 of `RotatingMachine` as an `AudioSource`; the fault starts and ends at a sample.

    If paced, time runs from the first `read`, and a late reader gets the sound it missed at once.
    """

    sample_rate = SAMPLE_RATE
    ended = False
    overruns = 0
    fault = ""
    hung = False
    drift_ppm = math.nan

    def __init__(self, config: SimulatorConfig) -> None:
        self._machine = RotatingMachine(config.seed)
        self._fault_start = round(config.fault_after_s * SAMPLE_RATE)
        self._fault_end = self._fault_start + round(config.fault_duration_s * SAMPLE_RATE)
        self._pace = Pace(SAMPLE_RATE)
        self._paced = config.paced
        self._position = 0
        self._closed = False

    @property
    def late_s(self) -> float:
        """Seconds for which sound that is due has waited to be read."""
        return self._pace.late_s(self._position) if self._paced else 0.0

    def read(self, timeout_s: float) -> AudioBlock | None:
        """Return the next block of at most 32 ms; `None` if it is not due in time or after `close`.

        A block ends where the fault begins or ends.
        """
        first = self._position
        faulty = self._fault_start <= first < self._fault_end
        changes = [at for at in (self._fault_start, self._fault_end) if at > first]
        end = min([first + _BLOCK, *changes])
        if self._closed or (self._paced and not self._pace.wait(end, timeout_s)):
            return None
        self._position = end
        return AudioBlock(self._machine.process(end - first, faulty=faulty), first)

    def close(self) -> None:
        """End the sound, and wake a waiting `read`."""
        self._closed = True
        self._pace.stop()
