"""What a listener speaks through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgeasd.common.types import AlarmEvent, Score
from edgeasd.models.detector import Detector
from edgeasd.publish.payloads.encoding import StreamClock
from edgeasd.publish.payloads.event import AudioQuality


class Outlet(Protocol):
    """Where a listener's findings go; no call may block."""

    def event(
        self, event: AlarmEvent, clock: StreamClock, audio: AudioQuality, *, keeps_sound: bool
    ) -> str | None:
        """Take an alarm event, never to be lost; return the name of the clip that it promises."""

    def scores(self, scores: Sequence[Score], clock: StreamClock, level_dbfs: float) -> None:
        """Take the scores since the last call."""

    def use(self, detector: Detector) -> None:
        """Take note of what makes the scores from now on."""
