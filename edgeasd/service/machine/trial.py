"""A detector that is to take over from the one in force, and is tried beside it until it can."""

from __future__ import annotations

from edgeasd.common.errors import os_reason
from edgeasd.common.types import AudioBlock
from edgeasd.models.detector import Detector, DetectorPipeline
from edgeasd.service.machine.runwatch import RunWatch


class Trial:
    """A detector on its way into force.

    The supervisor makes it; what changes afterwards, the listener's thread changes.

    Args:
        detector: Detector to go over to.
        refusal: Refusal of another model that still holds.
        ended: Whether there is nothing to try.

    Attributes:
        detector: Detector that is tried.
        refusal: Why this detector, or a file that never became one, is not used, in words.
        ended: Whether the detector has taken over or was given up.
    """

    def __init__(self, detector: Detector, *, refusal: str = "", ended: bool = False) -> None:
        self.detector = detector
        self.refusal = refusal
        self.ended = ended
        self._pipeline: DetectorPipeline | None = None

    def begin(self, in_force: DetectorPipeline, source_rate: int) -> None:
        """Prepare for the next block: another alarm for the same scores is in force at once."""
        if self.ended or self._pipeline is not None:
            return
        if self.detector.scores_as(in_force.detector):
            in_force.adjust(self.detector)
            self.ended = True
            return
        try:
            self._pipeline = self.detector.pipeline(source_rate)
        except Exception as exc:  # noqa: BLE001 - whatever a new model does, the old one goes on
            self._give_up(os_reason(exc))

    def process(self, block: AudioBlock, runs: RunWatch) -> DetectorPipeline | None:
        """Let the detector hear *block*; return its pipeline if that has a score to take over by.

        The trial has ended once the pipeline is in force, which the caller sees to.
        """
        if self.ended or self._pipeline is None:
            return None
        try:
            with runs.of(self._pipeline):
                is_ready = bool(self._pipeline.process(block))
        except Exception as exc:  # noqa: BLE001 - as above
            self._give_up(str(exc))
            return None
        return self._pipeline if is_ready else None

    def _give_up(self, reason: str) -> None:
        self.refusal, self.ended = reason, True
        self._pipeline = None  # what was heard by a model that is not used need not be kept
