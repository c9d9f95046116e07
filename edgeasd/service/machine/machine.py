"""One machine: its configuration, its files, its source of sound, and the thread that listens."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, replace

from edgeasd.capture.source import AudioSource, Waiting, open_or_wait
from edgeasd.common.backoff import BackOff
from edgeasd.common.config.keys import MachineConfig
from edgeasd.common.errors import AudioDeviceError, EdgeasdError
from edgeasd.detect.model.network import Model
from edgeasd.models.cache import FileWatch, Models
from edgeasd.models.calibration_file import files_of
from edgeasd.models.detector import Detector, detector_of
from edgeasd.publish.clips.recorder import Recorder
from edgeasd.publish.payloads.health import MachineHealth
from edgeasd.service.machine.health import Counts, Facts, calibration_health, judge, misfits
from edgeasd.service.machine.listener import Listener
from edgeasd.service.machine.reporter import Reporter, identity_of
from edgeasd.service.machine.stopping import stop_all
from edgeasd.service.node import Node

STOP_TIMEOUT_S = 3.0
"""Seconds to wait for a machine's thread: a device that hangs may never let go of it."""
_log = logging.getLogger(__name__)


class Machine:
    """One machine, from its source of sound to its messages; a microphone may come later.

    Args:
        config: Configuration of the machine.
        node: What all machines share.
        models: Model files in use.
        reporter: Publishes what is told of the machine.

    Attributes:
        config: Configuration in force now.

    Raises:
        EdgeasdError: If its model or a source that is no microphone cannot be used.
    """

    def __init__(
        self, config: MachineConfig, node: Node, models: Models, reporter: Reporter
    ) -> None:
        self.config = config
        self._node = node
        self._models = models
        self._reporter = reporter
        self._loading: Future[Model] | None = None
        self._told_warnings: list[str] = []
        self._told_model = ""
        self._back_off = BackOff()
        self._failure = ""
        # Looked at before they are read: what changes in between then counts as a change.
        self._watch = FileWatch(files_of(config))
        detector = _detector(config, models.load(config.model))
        self._source = open_or_wait(config.source, detector.sample_rate, AudioDeviceError)
        try:
            self._listener = self._make_listener(detector, Counts())
        except BaseException:
            self._source.close()
            raise
        self._log_detector(detector)
        self._tell_warnings()

    @property
    def name(self) -> str:
        """Name of the machine, which no reload changes."""
        return self.config.name

    @property
    def in_force(self) -> Detector:
        """Detector that scores now."""
        return self._listener.in_force

    @property
    def ended(self) -> bool:
        """Whether there is no more to come, as of a recording that was played to its end."""
        return not (self._listener.running or self._failure or self._listener.error)

    def start(self) -> None:
        """Begin to listen."""
        self._listener.start()

    def ask_to_stop(self) -> None:
        """Have listening end soon; `stop` must follow."""
        self._listener.ask_to_stop()

    def stop(self, timeout_s: float) -> None:
        """End listening and let go of the source; give up waiting after *timeout_s* seconds."""
        self._listener.stop(timeout_s)

    def fail(self, error: Exception) -> None:
        """Stop listening for now, because *error* was raised; `tend` begins anew."""
        failure = (
            f"listening ended by an internal error ({type(error).__name__}: {error!s:.200}); "
            "it begins anew, see the log"
        )
        now = time.monotonic()
        if failure == self._failure and not self._back_off.is_due(now):
            return  # it was met again before listening could begin anew
        self._failure = failure
        self._back_off.fail(now)
        _log.error("%s: listening failed", self.name, exc_info=error)
        stop_all([self], 0.0)

    def tend(self) -> None:
        """Begin anew after an error, ever less often if the error comes back at once."""
        error = self._listener.error
        if error is not None and not self._failure:
            self.fail(error)
        elif self._failure and self._back_off.is_due(time.monotonic()):
            self._go_on_with(self._open(self.config, EdgeasdError), self._listener.wanted)

    def change(self, config: MachineConfig) -> None:
        """Apply another configuration, without a gap in the sound if the source is the same.

        If it is another source, listening must have been stopped.  A microphone that is not there
        is waited for: to go on with the one before would be to hear another machine.

        Raises:
            EdgeasdError: If its model or a source that is no microphone cannot be used; all stays
                as it was.
        """
        is_new = config.model != self.config.model
        is_moved = config.source != self.config.source
        try:
            watch = FileWatch(files_of(config)) if is_new else self._watch
            detector = _detector(config, self._model(config, is_new=is_new))
            if is_moved:
                self._go_on_with(self._open(config, AudioDeviceError))
        except EdgeasdError:
            if is_moved:
                self._go_on_with(self._open(self.config, EdgeasdError))
            raise
        self.config, self._watch = config, watch
        if is_new:
            self._loading = None
        self._use(detector, refusal="" if is_new else self._listener.refusal)

    def _model(self, config: MachineConfig, *, is_new: bool) -> Model:
        # A model that was loaded stays good, whatever became of its file.
        origin = self._listener.wanted.origin
        return self._models.load(config.model) if is_new or origin is None else origin.model

    def follow(self) -> bool:
        """Follow changes of files and sound; return whether there is news to tell.

        A new model or calibration that cannot be used is told, and the one in force goes on.  A
        calibration that no longer fits the sound is told, too; nothing is adapted to it.
        """
        if isinstance(self._source, Waiting) and (found := self._source.take()) is not None:
            self._go_on_with(found)
        is_changed = self._follow_files()
        return self._tell_warnings() or is_changed

    def _follow_files(self) -> bool:
        """Load a model or calibration that changed, and return whether there is another now."""
        if self._loading is None and self._watch.changed():
            self._loading = self._models.begin(self.config.model)
        if self._loading is None or not self._loading.done():
            return False
        loaded, self._loading = self._loading, None
        try:
            detector = _detector(self.config, loaded.result())
        except EdgeasdError as exc:
            self._listener.refuse(str(exc))
        else:
            self._use(detector)
        return True

    def _use(self, detector: Detector, *, refusal: str = "") -> None:
        self._listener.use(detector, refusal=refusal)
        self._log_detector(detector)

    def _tell_warnings(self) -> bool:
        """Log what has newly come to be wrong with model and calibration; return whether any."""
        refusal, misfits = self._model_fault(), self._misfits()
        news = [words for words in (refusal, *misfits) if words not in ("", *self._told_warnings)]
        self._told_warnings = [refusal, *misfits]
        for words in news:
            log = _log.error if words == refusal else _log.warning
            log("%s: %s", self.name, words)
        if refusal in news and self._listener.wanted is self.in_force:
            self._listener.use(self._without_trial(), refusal=self._listener.refusal)
        return len(news) > 0

    def _without_trial(self) -> Detector:
        """Return the detector in force, by the settings that were changed during a trial."""
        in_force = self.in_force
        origin = in_force.origin
        if origin is not None and origin.machine.alarm != self.config.alarm:
            config = replace(self.config, model=origin.machine.model)
            with suppress(EdgeasdError):  # the settings may need the model that was refused
                detector = _detector(config, origin.model)
                if detector.scores_as(in_force):
                    return detector
        return in_force

    def _model_fault(self) -> str:
        refusal = self._listener.refusal
        return f"{refusal}; the model loaded before is used" if refusal else ""

    def _make_listener(self, detector: Detector, counted: Counts) -> Listener:
        recorder = None
        clips = self._node.config.clips
        if clips.enabled:
            recorder = Recorder(clips, self._source.sample_rate, self._node.clips.put)
        return Listener(
            self.name,
            detector,
            self._source,
            self._reporter,
            raised_s=self._reporter.raised_s(),
            recorder=recorder,
            counted=counted,
        )

    def _open(self, config: MachineConfig, excused: type[EdgeasdError]) -> AudioSource:
        return open_or_wait(config.source, self.in_force.sample_rate, excused)

    def _go_on_with(self, source: AudioSource, detector: Detector | None = None) -> None:
        """Listen to another *source*, scored by *detector* or by the one in force at first."""
        before = self._listener
        try:
            before.stop(STOP_TIMEOUT_S)
            self._source = source
            listener = self._make_listener(detector or before.in_force, before.counts)
            listener.use(before.wanted, refusal=before.refusal)
            listener.start()
        except BaseException:
            source.close()
            raise
        self._listener = listener
        self._failure = ""

    def facts(self) -> Facts:
        """Return what is known of it now."""
        return replace(self._listener.facts(), failure=self._failure)

    def tell_state(self, *, last: bool = False) -> bool:
        """Publish the state if it is news; return whether it, or the model in force, is.

        With *last* there is no later chance to tell it, and more may be told.
        """
        self._listener.end_stuck_run()
        detector = self.in_force
        state, reason = judge(self.facts())
        is_news = self._reporter.tell_state(
            state, reason, self._listener.last_score, detector.alarm.threshold, last=last
        )
        is_new_model = detector.model.sha256 != self._told_model
        self._told_model = detector.model.sha256
        return is_news or is_new_model

    def health(self) -> MachineHealth:
        """Return how it is listened to."""
        listener, source = self._listener, self._source
        return MachineHealth(
            name=self.name,
            state=self._reporter.state,
            reason=self._reporter.reason,
            **asdict(listener.counts),
            real_time_factor=listener.real_time_factor,
            late_s=source.late_s,
            restarts=self._back_off.n_failures,
            level_dbfs=listener.audio.level_dbfs,
            drift_ppm=source.drift_ppm,
            model=identity_of(self.in_force),
            model_fault=self._model_fault(),
            calibration=calibration_health(self.in_force, listener.fit, self._misfits()),
        )

    def _misfits(self) -> list[str]:
        rate = self._source.sample_rate
        return misfits(self.name, rate, self.in_force, self._listener.fit)

    def _log_detector(self, detector: Detector) -> None:
        _log.info(
            "%s: model %s, sha256 %.12s, threshold %.3f, clear threshold %.3f (%s)",
            self.name,
            detector.model.document.id,
            detector.model.sha256,
            detector.alarm.threshold,
            detector.alarm.clear_threshold,
            "" if detector.calibrated is None else detector.calibrated.origin,
        )


def _detector(config: MachineConfig, model: Model) -> Detector:
    """Return the detector of a machine, and log why its calibration cannot be used."""
    detector = detector_of(config, model)
    if detector.calibrated is not None and detector.calibrated.warning:
        _log.warning("%s: %s", config.name, detector.calibrated.warning)
    return detector
