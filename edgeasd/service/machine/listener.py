"""One machine: a thread that takes sound from its source through its pipeline to its outlet."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from edgeasd.baseline.validity import Fit
from edgeasd.capture.source import AudioSource
from edgeasd.common.errors import ModelError, os_reason
from edgeasd.common.types import AlarmEvent, AudioBlock, Score
from edgeasd.detect.pipeline import Detection
from edgeasd.models.detector import Detector, DetectorPipeline
from edgeasd.publish.clips.recorder import Recorder
from edgeasd.publish.payloads import AudioQuality, StreamClock
from edgeasd.service.machine.health import Facts
from edgeasd.service.machine.outlet import Outlet
from edgeasd.service.machine.runwatch import RunWatch

_READ_TIMEOUT_S = 0.5
_END_S = 1.0
"""For a run of a network that has to be ended."""
_PATIENCE_S = 10.0
"""After these seconds without sound a clip is what was heard by then."""
_LATE_S, _TIMELY_S = 5.0, 1.0
"""Sound that waits for longer is told as late, until it waits for less."""
_log = logging.getLogger(__name__)


class Listener:
    """Listens to one machine in a thread of its own, so that no machine waits for another.

    Args:
        name: Of the machine.
        detector: What scores it.
        source: Its sound; closed by `stop`.
        outlet: Takes events and scores.
        score_interval_s: Seconds of sound between two calls of ``outlet.scores``.
        raised_s: Seconds since when the alarm is raised, from an earlier run; None if it is not.
        recorder: Keeps the sound around the start of an alarm; None keeps none.

    Attributes:
        name: As given.
        error: What ended the thread, if it was not asked to end.
        n_blocks: Blocks of sound received.
        score_interval_s: As given; may be set at any time.
        runs: Ends a run of the network that lasts too long, when asked to look.
    """

    def __init__(
        self,
        name: str,
        detector: Detector,
        source: AudioSource,
        outlet: Outlet,
        *,
        score_interval_s: float,
        raised_s: float | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.name = name
        self.error: Exception | None = None
        self.n_blocks = 0
        self.runs = RunWatch()
        self._source = source
        self._outlet = outlet
        self._recorder = recorder
        self._pipeline = detector.pipeline(source.sample_rate)
        if raised_s is not None:
            self._pipeline.resume_alarm(raised_s)
        # Left by the supervisor for this thread.
        self._wanted: deque[Detector] = deque()
        self._next: DetectorPipeline | None = None
        self._refusal = ""
        self._model_fault = ""
        self.score_interval_s = score_interval_s
        self._told_at = -math.inf
        self._clock = StreamClock(0.0, detector.sample_rate)
        self._scores: list[Score] = []
        self._last_score: Score | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"listener-{name}", daemon=True)
        self._loop_at = self._sound_at = self._window_at = time.monotonic()
        self._n_in_vain = 0
        self._is_late = False
        self._busy_s = 0.0
        self._sound_s = 0.0

    def start(self) -> None:
        """Begin to listen."""
        self._loop_at = self._sound_at = self._window_at = time.monotonic()
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have the thread end soon; `stop` must follow."""
        self._stopping.set()

    def stop(self, timeout_s: float) -> None:
        """End the thread and let go of the source; give up waiting after *timeout_s* seconds."""
        self._stopping.set()
        self._source.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s - _END_S)
            self.runs.end()
            self._thread.join(_END_S)

    def use(self, detector: Detector) -> None:
        """Score by *detector* from the next block on, without a gap in the sound.

        Another alarm of the same model holds at once.  Another model runs beside the old one until
        it has its first score; then it takes over, also an alarm that is raised.  One that fails
        before is given up, see `take_refusal`.
        """
        self._wanted.append(detector)

    @property
    def detector(self) -> Detector:
        """What scores now."""
        return self._pipeline.detector

    def take_refusal(self) -> str:
        """Return why a model was given up since the last call, in words; empty if none was."""
        refusal, self._refusal = self._refusal, ""
        return refusal

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
        return self._busy_s / self._sound_s if self._sound_s else float("nan")

    @property
    def audio(self) -> AudioQuality:
        """Level and losses of the sound."""
        pipeline = self._pipeline
        return AudioQuality(pipeline.signal.level_dbfs, pipeline.gaps, self._source.overruns)

    @property
    def drift_ppm(self) -> float:
        """By how many millionths the microphone's clock is fast; NaN if not known."""
        return self._source.drift_ppm

    @property
    def late_s(self) -> float:
        """For how long the latest sound heard had waited in the source, seconds."""
        return self._source.late_s

    @property
    def fit(self) -> Fit:
        """How the calibration fits what came after it."""
        return self._pipeline.fit

    def facts(self) -> Facts:
        """Return what is known of the machine now."""
        now = time.monotonic()
        pipeline = self._pipeline
        return Facts(
            fault=self._source.fault,
            hung=self._source.hung,
            sound_age_s=self._sound_age_s(now),
            loop_age_s=now - self._loop_at,
            window_age_s=now - self._window_at - pipeline.due_s,
            signal=pipeline.signal.state,
            alarm=pipeline.alarm.active,
            scored=self._last_score is not None,
            ended=not self.running,
            model_fault=self._model_fault,
            late=self._is_late,
        )

    def _sound_age_s(self, now: float) -> float:
        """Return for how long the source has had no sound.

        Where the computer is too slow sound waits in the source, and nobody asked for it in vain.
        """
        age_s = now - self._sound_at
        return min(age_s, self._n_in_vain * _READ_TIMEOUT_S) if self.running else age_s

    def _run(self) -> None:
        try:
            try:
                self._listen()
            finally:
                self._end_clips()
        except Exception as exc:  # noqa: BLE001 - the supervisor begins anew with it
            self.error = exc

    def _listen(self) -> None:
        while not self._stopping.is_set() and not self._source.ended:
            self._loop_at = time.monotonic()
            block = self._source.read(_READ_TIMEOUT_S)
            late_s = self._source.late_s
            self._is_late = late_s > (_TIMELY_S if self._is_late else _LATE_S)
            if block is not None:
                self._process(block)
                self._n_in_vain = 0
                continue
            self._n_in_vain += 1
            if self._n_in_vain * _READ_TIMEOUT_S > _PATIENCE_S:
                self._end_clips()
        if self._source.ended:
            self._report(self._score(self._pipeline.flush))
            self._publish_scores()

    def _end_clips(self) -> None:
        if self._recorder is not None:
            self._recorder.finish()

    def _process(self, block: AudioBlock) -> None:
        began_s = time.monotonic()
        if self._n_in_vain:
            self._window_at = began_s  # none was due while there was no sound
        self._sound_at = began_s
        self.n_blocks += 1
        while self._wanted:
            self._turn_to(self._wanted.popleft())
        end_s = (block.first_sample + len(block.samples)) / self._source.sample_rate
        if self._recorder is not None:
            self._recorder.process(block)
        pipeline = self._pipeline
        self._clock = StreamClock(time.time() - end_s, pipeline.sample_rate)
        gaps, windows = pipeline.gaps, pipeline.windows
        detections = self._score(lambda: pipeline.process(block))
        if pipeline.gaps > gaps:
            self._last_score = None
        if pipeline.gaps > gaps or pipeline.windows > windows:
            self._window_at = time.monotonic()
        self._busy_s += time.monotonic() - began_s
        self._sound_s += len(block.samples) / self._source.sample_rate
        self._report(detections)
        if self._next is not None:
            self._rehearse(self._next, block)

    def _score(self, work: Callable[[], list[Detection]]) -> list[Detection]:
        """Return what *work* of the pipeline finds; where the model fails, begin anew after it."""
        try:
            with self.runs.of(self._pipeline):
                detections = work()
        except ModelError as exc:
            self._model_fault = str(exc)
            self._last_score = None
            self._go_on_by(self._pipeline.detector.pipeline(self._source.sample_rate))
            return []
        if detections:
            self._model_fault = ""
        return detections

    def _turn_to(self, detector: Detector) -> None:
        if detector.scores_as(self._pipeline.detector):
            self._next = None
            self._pipeline.adjust(detector)
            self._outlet.use(detector)
            return
        try:
            self._next = detector.pipeline(self._source.sample_rate)
        except Exception as exc:  # noqa: BLE001 - as in _rehearse
            self._next = None
            self._refusal = os_reason(exc)

    def _rehearse(self, following: DetectorPipeline, block: AudioBlock) -> None:
        """Have the *following* pipeline hear *block* too, and let them take over when they can."""
        try:
            with self.runs.of(following):
                is_ready = following.process(block)
        except Exception as exc:  # noqa: BLE001 - whatever a new model does, the old one goes on
            self._next = None
            self._refusal = str(exc)
            return
        if is_ready:
            self._next = None
            self._take_over(following)

    def _take_over(self, following: DetectorPipeline) -> None:
        # No message mixes scores of two models.
        self._publish_scores()
        self._told_at *= following.sample_rate / self._pipeline.sample_rate
        self._model_fault = ""
        self._go_on_by(following)
        self._outlet.use(following.detector)

    def _go_on_by(self, following: DetectorPipeline) -> None:
        following.continue_from(self._pipeline)
        self._pipeline = following

    def _report(self, detections: Sequence[Detection]) -> None:
        for detection in detections:
            self._last_score = detection.score
            self._scores.append(detection.score)
            if detection.event is not None:
                self._tell(detection.event)
            # By position, not by the clock: a replay then gives the messages of the live run.
            interval = round(self.score_interval_s * self._clock.sample_rate)
            if detection.score.end_sample - self._told_at >= interval:
                self._publish_scores()

    def _tell(self, event: AlarmEvent) -> None:
        _log.info(
            "%s: alarm %s, score %.3f, threshold %.3f",
            self.name,
            event.type,
            event.score,
            event.threshold,
        )
        keeps_sound = self._recorder is not None and event.type == "start"
        clip = self._outlet.event(event, self._clock, self.audio, keeps_sound=keeps_sound)
        if self._recorder is not None and clip is not None:
            self._recorder.keep(clip, event, self._pipeline.detector.model.document)

    def _publish_scores(self) -> None:
        if self._scores:
            level_dbfs = self._pipeline.signal.level_dbfs
            self._outlet.scores(self._scores, self._clock, level_dbfs)
            self._told_at = self._scores[-1].end_sample
            self._scores = []
