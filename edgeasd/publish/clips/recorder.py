"""Cuts clips, the sound around the start of an alarm, from the stream of a machine.

It stands here, and not in ``capture``, because a clip belongs to an alert: it has the name that the
event carries, and `writer` takes it from here.  The listener only feeds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeasd.common.config.keys import ClipsConfig
from edgeasd.common.types import AlarmEvent, AudioBlock
from edgeasd.detect.model.document import ModelDocument
from edgeasd.publish.clips.folder import Clip
from edgeasd.publish.clips.recent_sound import RecentSound

_SLACK_S = 3.0
"""Sound kept beyond a clip: a block has up to a second, and a score follows its sound by up to a
hop and the delay of the resampler."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """A clip that is not complete yet: its name and its positions."""

    name: str
    first_sample: int
    end_sample: int


class Recorder:
    """Remembers the latest sound of one machine and hands over clips of it.

    Clips have the sample rate of the source, as people hear more than the model needs.

    Args:
        config: Length of a clip.
        sample_rate: Sample rate of the source, hertz.
        take: Called with each clip when it is complete; must not block.
    """

    def __init__(self, config: ClipsConfig, sample_rate: int, take: Callable[[Clip], None]) -> None:
        self._config = config
        self._sample_rate = sample_rate
        kept_s = config.before_s + config.after_s + _SLACK_S
        self._recent = RecentSound(round(kept_s * sample_rate))
        self._take = take
        self._wishes: list[_Wish] = []

    def process(self, block: AudioBlock) -> None:
        """Add *block* of the source, and hand over the clips that it completes."""
        self._recent.process(block)
        if self._wishes:
            self._hand_over(self._recent.end_sample)

    def keep(self, name: str, event: AlarmEvent, document: ModelDocument) -> None:
        """Have a clip made of the sound around *event*.

        The clip begins where a window began.  So its windows are those that were scored live, and
        their scores the same: bit for bit if the source has the sample rate of the model.

        Args:
            name: Name of the file.
            event: The start of an alarm.
            document: Document of the model that raised the alarm.
        """
        features, window = document.features, document.window
        at, hop = event.first_sample, document.hop_samples
        last_window = at - features.n_samples(window.n_frames)
        wanted = at - self._config.before_s * features.sample_rate
        first = last_window - max(0, math.ceil((last_window - wanted) / hop)) * hop
        end = at + round(self._config.after_s * features.sample_rate)
        self._wishes.append(
            _Wish(name, *(n * self._sample_rate // features.sample_rate for n in (first, end)))
        )

    def finish(self) -> None:
        """Hand over the incomplete clips, as far as they go: the sound has ended."""
        self._hand_over(None)

    def _hand_over(self, end_sample: int | None) -> None:
        for wish in list(self._wishes):
            if end_sample is None or wish.end_sample <= end_sample:
                self._wishes.remove(wish)
                samples = self._recent.cut(wish.first_sample, wish.end_sample)
                if samples.size:
                    self._take(Clip(wish.name, samples, self._sample_rate))
