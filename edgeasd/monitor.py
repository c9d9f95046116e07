"""One machine: a thread that takes sound from its source through the pipeline to its outlet."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from edgeasd.capture.resampler import Resampler
from edgeasd.capture.source import AudioSource
from edgeasd.config import AlarmConfig
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.metadata import SectionDocument
from edgeasd.detect.pipeline import Detection, Pipeline
from edgeasd.errors import ConfigError
from edgeasd.health import Facts
from edgeasd.publish.payloads import AudioQuality, StreamClock
from edgeasd.stream import AlarmEvent, AudioBlock, Score

_READ_TIMEOUT_S = 0.5
_log = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where a monitor's findings go; neither call may block."""

    def event(self, event: AlarmEvent, clock: StreamClock, audio: AudioQuality) -> None:
        """Take an alarm event, never to be lost."""

    def scores(self, scores: Sequence[Score], clock: StreamClock, level_dbfs: float) -> None:
        """Take the scores since the last call."""


def alarm_spec(config: AlarmConfig, section: SectionDocument, sample_rate: int) -> AlarmSpec:
    """Return the alarm that the site's *config* makes of the model's *section*.

    Raises:
        ConfigError: If the clear threshold in force would be above the threshold.
    """
    threshold = section.threshold if config.threshold is None else config.threshold
    clear_threshold = config.clear_threshold
    if clear_threshold is None:
        clear_threshold = min(section.clear_threshold, threshold)
    if clear_threshold > threshold:
        raise ConfigError(
            f"alarm.clear_threshold={clear_threshold:g} must be at most the model's "
            f"threshold={threshold:g}"
        )
    return AlarmSpec(
        threshold=threshold,
        clear_threshold=clear_threshold,
        raise_after=config.raise_after,
        clear_after=config.clear_after,
        cool_down=round(config.cool_down_s * sample_rate),
        update_every=max(1, round(config.update_every_s * sample_rate)),
    )


class Monitor:
    """Listens to one machine in a thread of its own, so that no machine waits for another.

    Args:
        name: Of the machine.
        pipeline: Of the machine; its input rate is that of its model.
        source: Its sound; closed by `stop`.
        outlet: Takes events and scores.
        score_interval_s: Seconds of sound between two calls of ``outlet.scores``.

    Attributes:
        name: As given.
        error: What ended the thread, if it was not asked to end.
        n_blocks: Blocks of sound received.
    """

    def __init__(
        self,
        name: str,
        pipeline: Pipeline,
        source: AudioSource,
        outlet: Outlet,
        score_interval_s: float,
    ) -> None:
        self.name = name
        self.error: Exception | None = None
        self.n_blocks = 0
        self._sample_rate = pipeline.sample_rate
        self._pipeline = pipeline
        self._source = source
        self._outlet = outlet
        self._resampler = Resampler(source.sample_rate, self._sample_rate)
        self._score_interval = round(score_interval_s * self._sample_rate)
        self._publish_at = 0
        self._clock = StreamClock(0.0, self._sample_rate)
        self._scores: list[Score] = []
        self._last_score: Score | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"monitor-{name}", daemon=True)
        self._loop_at = self._sound_at = time.monotonic()
        self._busy_s = 0.0
        self._n_samples = 0

    def start(self) -> None:
        """Begin to listen."""
        self._loop_at = self._sound_at = time.monotonic()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread and let go of the source; give up waiting after *timeout_s* seconds."""
        self._stopping.set()
        self._source.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._thread.is_alive()

    @property
    def last_score(self) -> float | None:
        """The latest score, if there was one since the sound began or was interrupted."""
        return None if self._last_score is None else self._last_score.value

    @property
    def windows(self) -> int:
        """Windows scored so far."""
        return self._pipeline.windows

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of sound; NaN before there was any."""
        sound_s = self._n_samples / self._sample_rate
        return self._busy_s / sound_s if sound_s else float("nan")

    @property
    def audio(self) -> AudioQuality:
        """Level and losses of the sound."""
        return AudioQuality(
            self._pipeline.signal.level_dbfs, self._pipeline.gaps, self._source.overruns
        )

    def facts(self) -> Facts:
        """Return what is known of the machine now."""
        now = time.monotonic()
        return Facts(
            fault=self._source.fault,
            hung=self._source.hung,
            sound_age_s=now - self._sound_at,
            loop_age_s=now - self._loop_at,
            signal=self._pipeline.signal.state,
            alarm=self._pipeline.alarm.active,
            scored=self._last_score is not None,
        )

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and not self._source.ended:
                self._loop_at = time.monotonic()
                block = self._source.read(_READ_TIMEOUT_S)
                if block is not None:
                    self._process(block)
            if self._source.ended:
                self._score(self._resampler.flush())
                self._publish_scores()
        except Exception as exc:  # noqa: BLE001 - the supervisor ends the daemon with it
            self.error = exc

    def _process(self, block: AudioBlock) -> None:
        self._sound_at = time.monotonic()
        self.n_blocks += 1
        end_s = (block.first_sample + len(block.samples)) / self._source.sample_rate
        self._clock = StreamClock(time.time() - end_s, self._sample_rate)
        self._score(self._resampler.process(block))

    def _score(self, block: AudioBlock) -> None:
        began = time.perf_counter()
        gaps = self._pipeline.gaps
        detections = self._pipeline.process(block)
        if self._pipeline.gaps > gaps:
            self._last_score = None
        self._busy_s += time.perf_counter() - began
        self._n_samples += len(block.samples)
        for detection in detections:
            self._report(detection)

    def _report(self, detection: Detection) -> None:
        self._last_score = detection.score
        self._scores.append(detection.score)
        if detection.event is not None:
            _log.info(
                "%s: alarm %s, score %.3f, threshold %.3f",
                self.name,
                detection.event.type,
                detection.event.score,
                detection.event.threshold,
            )
            self._outlet.event(detection.event, self._clock, self.audio)
        # By position, not by the clock: a replay then gives the messages of the live run.
        if detection.score.end_sample >= self._publish_at:
            self._publish_at = detection.score.end_sample + self._score_interval
            self._publish_scores()

    def _publish_scores(self) -> None:
        if self._scores:
            self._outlet.scores(self._scores, self._clock, self._pipeline.signal.level_dbfs)
            self._scores = []
