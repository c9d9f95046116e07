"""Cuts the sound around the start of an alarm from the stream of a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeasd.capture.history import History
from edgeasd.config import ClipsConfig
from edgeasd.publish.clips import Clip
from edgeasd.stream import AudioBlock


@dataclass(frozen=True, slots=True)
class _Wish:
    """A clip that is still being heard: its name and its positions."""

    name: str
    first_sample: int
    end_sample: int


class Recorder:
    """Remembers the latest sound of one machine and hands over clips of it.

    At the source's own rate: people hear more than the model.

    Args:
        config: How long a clip is.
        sample_rate: Of the source, hertz.
        take: Gets each clip when it is complete; must not wait.
    """

    def __init__(self, config: ClipsConfig, sample_rate: int, take: Callable[[Clip], None]) -> None:
        self._before = round(config.before_s * sample_rate)
        self._after = round(config.after_s * sample_rate)
        self._sample_rate = sample_rate
        # A second more, as positions come from the model's rate and blocks are of any length.
        self._history = History(self._before + self._after + sample_rate)
        self._take = take
        self._wishes: list[_Wish] = []

    def process(self, block: AudioBlock) -> None:
        """Take in *block* of the source, and hand over the clips that it completes."""
        self._history.process(block)
        if self._wishes:
            self._hand_over(self._history.end_sample)

    def keep(self, name: str, event_s: float) -> None:
        """Have a clip made.

        Args:
            name: Of its file.
            event_s: Position of the event in the stream, seconds.
        """
        at = round(event_s * self._sample_rate)
        self._wishes.append(_Wish(name, at - self._before, at + self._after))

    def finish(self) -> None:
        """Hand over what there is of the clips that are not complete: the sound has ended."""
        self._hand_over(None)

    def _hand_over(self, end_sample: int | None) -> None:
        for wish in list(self._wishes):
            if end_sample is None or wish.end_sample <= end_sample:
                self._wishes.remove(wish)
                samples = self._history.cut(wish.first_sample, wish.end_sample)
                if samples.size:
                    self._take(Clip(wish.name, samples, self._sample_rate))
