"""Listens to one machine: a thread that takes sound from a source to its pipeline and reports."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from edgeasd.baseline.validity import Fit
from edgeasd.capture.source import AudioSource
from edgeasd.common.errors import ModelError
from edgeasd.common.types import AlarmEvent, AudioBlock, Score
from edgeasd.detect.pipeline import Detection
from edgeasd.models.detector import Detector, DetectorPipeline
from edgeasd.publish.clips.folder import clip_name
from edgeasd.publish.clips.recorder import Recorder
from edgeasd.publish.payloads.encoding import StreamClock
from edgeasd.publish.payloads.event import AudioQuality
from edgeasd.service.machine.health import Counts, Facts
from edgeasd.service.machine.reporter import Reporter
from edgeasd.service.machine.runwatch import RunWatch
from edgeasd.service.machine.trial import Trial

_READ_TIMEOUT_S = 0.5
_END_S = 1.0
"""Seconds in which a run of the network ends after it was told to."""
_PATIENCE_S = 10.0
"""Seconds without sound after which a clip is written with the sound heard by then."""
_LATE_S, _TIMELY_S = 5.0, 1.0
"""Sound that waits for longer than the first is late, until it waits for less than the second."""


class Listener:
    """Listens to one machine in a thread of its own, so that no machine waits for another.

    Args:
        name: Name of the machine.
        detector: Detector that is in force at first.
        source: Source of the sound; closed by `stop`.
        reporter: Takes events and scores.
        raised_s: Seconds for which the alarm has been raised already; None if it is not.
        recorder: Keeps the sound around the start of an alarm; None keeps none.
        counted: Counts to go on from; None begins anew.

    Attributes:
        name: Name of the machine.
        error: Error that ended the thread; None if there was none.
    """

    def __init__(
        self,
        name: str,
        detector: Detector,
        source: AudioSource,
        reporter: Reporter,
        *,
        raised_s: float | None = None,
        recorder: Recorder | None = None,
        counted: Counts | None = None,
    ) -> None:
        self.name = name
        self.error: Exception | None = None
        self._source = source
        self._reporter = reporter
        self._recorder = recorder
        self._counted = counted or Counts()
        self._pipeline = detector.pipeline(source.sample_rate)
        if raised_s is not None:
            self._pipeline.resume_alarm(raised_s)
        self._trial = Trial(detector, ended=True)
        self._runs = RunWatch()
        self._model_fault = ""
        self._told_at = -math.inf
        self._clock = StreamClock(0.0, detector.sample_rate)
        self._scores: list[Score] = []
        self._last_score: Score | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"listener-{name}", daemon=True)
        self._loop_at = self._sound_at = self._window_at = time.monotonic()
        self._n_blocks = 0
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
            self._runs.end()
            self._thread.join(_END_S)

    def end_stuck_run(self) -> None:
        """End a run of the network that lasts too long; to be called again and again."""
        self._runs.end_stuck()

    def use(self, detector: Detector, *, refusal: str = "") -> None:
        """Have *detector* take over from the next block on; a *refusal* of another may still hold.

        Another alarm of the same model is in force at once.  Another model runs beside the one in
        force until its first score, or until it fails.
        """
        self._trial = Trial(detector, refusal=refusal)

    def refuse(self, reason: str) -> None:
        """Take note of why a model that should have taken over cannot be used."""
        self._trial.refusal = reason

    @property
    def in_force(self) -> Detector:
        """Detector that scores now."""
        return self._pipeline.detector

    @property
    def wanted(self) -> Detector:
        """Detector on trial; without a trial, the one in force."""
        trial = self._trial
        return self.in_force if trial.ended else trial.detector

    @property
    def refusal(self) -> str:
        """Why the latest model that should have taken over is not used; empty if it is."""
        return self._trial.refusal

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._thread.is_alive()

    @property
    def last_score(self) -> float | None:
        """Latest score; None if there was none since the sound began or was interrupted."""
        return None if self._last_score is None else self._last_score.value

    @property
    def counts(self) -> Counts:
        """Counts so far, with those that this listener went on from."""
        before, pipeline = self._counted, self._pipeline
        return Counts(
            before.blocks + self._n_blocks,
            before.windows + pipeline.windows,
            before.gaps + pipeline.gaps,
            before.overruns + self._source.overruns,
        )

    @property
    def audio(self) -> AudioQuality:
        """Level and losses of the sound."""
        counts = self.counts
        return AudioQuality(self._pipeline.signal.level_dbfs, counts.gaps, counts.overruns)

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of sound; NaN before there was any."""
        return self._busy_s / self._sound_s if self._sound_s else float("nan")

    @property
    def fit(self) -> Fit:
        """How the calibration fits the sound heard since."""
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
        age_s = now - self._sound_at
        # On a computer that is too slow, sound waits in the source and no read was in vain.
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
        self._n_blocks += 1
        trial = self._trial
        trial.begin(self._pipeline, self._source.sample_rate)
        end_s = (block.first_sample + len(block.samples)) / self._source.sample_rate
        if self._recorder is not None:
            self._recorder.process(block)
        pipeline = self._pipeline
        self._clock = StreamClock(time.time() - end_s, pipeline.sample_rate)
        gaps, windows = pipeline.gaps, pipeline.windows
        detections = self._score(lambda: pipeline.process(block))
        if pipeline.gaps > gaps:
            self._last_score = None
        if (pipeline.gaps, pipeline.windows) != (gaps, windows):
            self._window_at = time.monotonic()
        self._busy_s += time.monotonic() - began_s
        self._sound_s += len(block.samples) / self._source.sample_rate
        self._report(detections)
        following = trial.process(block, self._runs)
        if following is not None:
            self._take_over(following)
            trial.ended = True

    def _score(self, work: Callable[[], list[Detection]]) -> list[Detection]:
        """Return the detections of *work*; if the model fails in it, score anew from here on."""
        try:
            with self._runs.of(self._pipeline):
                detections = work()
        except ModelError as exc:
            self._model_fault, self._last_score = str(exc), None
            self._go_on_by(self.in_force.pipeline(self._source.sample_rate))
            return []
        if detections:
            self._model_fault = ""
        return detections

    def _take_over(self, following: DetectorPipeline) -> None:
        # No message mixes scores of two models.
        self._publish_scores()
        self._told_at *= following.sample_rate / self._pipeline.sample_rate
        self._model_fault = ""
        self._go_on_by(following)

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
            interval = round(self._reporter.score_interval_s * self._clock.sample_rate)
            if detection.score.end_sample - self._told_at >= interval:
                self._publish_scores()

    def _tell(self, event: AlarmEvent) -> None:
        detector, clock = self.in_force, self._clock
        recorder = self._recorder if event.type == "start" else None
        has_clip = recorder is not None
        event_id = self._reporter.event(event, detector, clock, self.audio, has_clip=has_clip)
        if recorder is not None:
            name = clip_name(clock.time_ms(event.first_sample), self.name, event_id)
            recorder.keep(name, event, detector.model.document)

    def _publish_scores(self) -> None:
        if self._scores:
            level_dbfs = self._pipeline.signal.level_dbfs
            self._reporter.scores(self._scores, self.in_force, self._clock, level_dbfs)
            self._told_at = self._scores[-1].end_sample
            self._scores = []
