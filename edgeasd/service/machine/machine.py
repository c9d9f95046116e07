"""One machine of the daemon: what listens to it, what scores it, and what speaks for it."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from edgeasd.baseline.validity import Fit
from edgeasd.capture.source import AudioSource, open_source
from edgeasd.capture.waiting import Waiting
from edgeasd.common.backoff import BackOff
from edgeasd.common.config import Config, MachineConfig, SourceConfig
from edgeasd.common.errors import AudioDeviceError, EdgeasdError
from edgeasd.detect.features import lost_band
from edgeasd.detect.model.network import Model
from edgeasd.models.cache import FileWatch, Models
from edgeasd.models.calibration_file import calibrated_model, files_of
from edgeasd.models.detector import Detector, make_detector
from edgeasd.publish.clips.recorder import Recorder
from edgeasd.publish.payloads.health import CalibrationHealth, MachineHealth
from edgeasd.service.machine.health import Facts, judge
from edgeasd.service.machine.listener import Listener
from edgeasd.service.machine.reporter import Reporter
from edgeasd.service.machine.stopping import stop_all
from edgeasd.service.node import Node

STOP_TIMEOUT_S = 3.0
"""How long to wait for a machine's thread: a device that hangs may never let go of it."""
_log = logging.getLogger(__name__)


class Machine:
    """One machine, from its source of sound to what is said of it.

    Args:
        config: Of the machine.
        node: What all machines share.
        models: Model files in use.
        calibrated: The configuration of the daemon.

    Attributes:
        config: In force now.
        listener: Its thread.
        voice: What speaks for it.

    A microphone that is not there is waited for.

    Raises:
        EdgeasdError: If its model or a source that is no microphone cannot be used.
    """

    def __init__(
        self, config: MachineConfig, node: Node, models: Models, calibrated: Config
    ) -> None:
        self.config = config
        self._models = models
        self._node = node
        self._site = calibrated
        self._model_fault = ""
        self._loading: Future[Model] | None = None
        self._told_misfits: list[str] = []
        # Looked at before they are read: what changes meanwhile is then seen as a change.
        self._watch = FileWatch(files_of(config))
        self._model = models.load(config.model)
        self._detector = self._make_detector(config, self._model)
        self._in_force = config.model, self._model
        self.reporter = Reporter(node, config.name, self._detector)
        self._back_off = BackOff()
        self._failure = ""
        self._source = self._open_or_wait(config.source, AudioDeviceError)
        try:
            self.listener = self._make_listener(self._detector)
        except BaseException:
            self._source.close()
            raise
        self._log_detector()
        self._tell_misfits()

    @property
    def ended(self) -> bool:
        """Whether there is no more to come: of recordings that were played to their end."""
        return not (self.listener.running or self._failure or self.listener.error is not None)

    def is_moved_by(self, config: MachineConfig) -> bool:
        """Return whether *config* has another source; its listener must be stopped before `change`.

        Machines that all want the same device in another way, or each that of another, can have it
        only once all of them have let go.
        """
        return config.source != self.config.source

    def fail(self, error: Exception) -> None:
        """Listen no more for now, as *error* was raised; `tend` begins anew."""
        failure = (
            f"listening ended by an internal error ({type(error).__name__}: {error!s:.200}); "
            "it begins anew, see the log"
        )
        now = time.monotonic()
        if failure == self._failure and not self._back_off.is_due(now):
            return  # met again before it could begin anew
        self._failure = failure
        self._back_off.fail(now)
        _log.error("%s: listening failed", self.config.name, exc_info=error)
        stop_all([self.listener], 0.0)

    def tend(self) -> None:
        """Begin anew what an error ended, ever more seldom if it ends at once again."""
        if self.listener.error is not None and not self._failure:
            self.fail(self.listener.error)
        elif self._failure and self._back_off.is_due(time.monotonic()):
            self._hear_by(self._open_or_wait(self.config.source, EdgeasdError), self._detector)

    def change(self, config: MachineConfig) -> None:
        """Apply another configuration, without a gap in the sound if the source is the same.

        A microphone that is not there is waited for: to go on with the one before would be to hear
        another machine.

        Raises:
            EdgeasdError: If its model or a source that is no microphone cannot be used; all stays
                as it was.
        """
        # What is loaded stays good, whatever became of its file.
        is_new = config.model != self.config.model
        is_moved = self.is_moved_by(config)
        try:
            watch = FileWatch(files_of(config)) if is_new else self._watch
            model = self._models.load(config.model) if is_new else self._model
            detector = self._make_detector(config, model)
            if is_moved:
                self._hear_by(self._open_or_wait(config.source, AudioDeviceError))
        except EdgeasdError:
            if is_moved:
                self._hear_by(self._open_or_wait(self.config.source, EdgeasdError))
            raise
        self._use(model, detector)
        self.config, self._watch = config, watch
        if is_new:
            self._model_fault = ""
            self._loading = None

    def follow(self) -> bool:
        """Follow what changed, outside and in the sound; return whether there is news to tell.

        A model or site file that cannot be used is told, and what was in use goes on.  So is a
        calibration that fits no longer; nothing is adapted by it.
        """
        has_news = self._tell_misfits()
        return self._follow_files() or has_news

    def _tell_misfits(self) -> bool:
        misfits = self._misfits(self.listener.fit)
        news = [words for words in misfits if words not in self._told_misfits]
        self._told_misfits = misfits
        for words in news:
            _log.warning("%s: %s", self.config.name, words)
        return bool(news)

    def _follow_files(self) -> bool:
        if isinstance(self._source, Waiting) and (found := self._source.take()) is not None:
            self._hear_by(found)
        refusal = self.listener.take_refusal()
        if refusal:
            self._refuse_model(refusal)
            self._go_back()
            return True
        if self._loading is None and self._watch.changed():
            self._loading = self._models.begin(self.config.model)
        if self._loading is None or not self._loading.done():
            return False
        loaded, self._loading = self._loading, None
        try:
            model = loaded.result()
            detector = self._make_detector(self.config, model)
        except EdgeasdError as exc:
            self._refuse_model(str(exc))
            return True
        self._model_fault = ""
        self._use(model, detector)
        return True

    def _use(self, model: Model, detector: Detector) -> None:
        # One that is still on trial may be given up too.
        if self.listener.detector.model.sha256 == self._model.sha256:
            self._in_force = self.config.model, self._model
        self._model, self._detector = model, detector
        self.listener.use(detector)
        self._log_detector()

    def _go_back(self) -> None:
        """Go on with the model in force, by the alarm that was set since."""
        path, self._model = self._in_force
        self._detector = self.listener.detector
        with suppress(EdgeasdError):  # what was set may need the model that was given up
            detector = self._make_detector(replace(self.config, model=path), self._model)
            if detector.scores_as(self._detector):
                self._detector = detector
                self.listener.use(detector)

    def _refuse_model(self, reason: str) -> None:
        self._model_fault = f"{reason}; the model loaded before is used"
        _log.error("%s: %s", self.config.name, self._model_fault)

    def _make_listener(self, detector: Detector) -> Listener:
        recorder = None
        if self._site.clips.enabled:
            recorder = Recorder(self._site.clips, self._source.sample_rate, self._node.clips.put)
        return Listener(
            self.config.name,
            detector,
            self._source,
            self.reporter,
            score_interval_s=self._site.mqtt.score_interval_s,
            raised_s=self.reporter.raised_s(),
            recorder=recorder,
        )

    def _open_or_wait(self, config: SourceConfig, excused: type[EdgeasdError]) -> AudioSource:
        """Return the source, or what looks for it if opening it raises what is *excused*."""
        try:
            return open_source(config)
        except excused as exc:
            return Waiting(config, str(exc), self._detector.sample_rate)

    def _hear_by(self, source: AudioSource, detector: Detector | None = None) -> None:
        """Go on with another *source*, at first scored by *detector*, or by what scores now."""
        try:
            self.listener.stop(STOP_TIMEOUT_S)
            self._source = source
            listener = self._make_listener(detector or self.listener.detector)
            listener.score_interval_s = self.listener.score_interval_s
            listener.use(self._detector)
            listener.start()
        except BaseException:
            source.close()
            raise
        self.listener = listener
        self._failure = ""

    def facts(self) -> Facts:
        """Return what is known of it now."""
        return replace(self.listener.facts(), failure=self._failure)

    def tell_state(self, *, last: bool = False) -> bool:
        """Publish the state if it is news; return whether it was.  End what hides it.

        Args:
            last: Whether there is no later chance to tell it.
        """
        self.listener.runs.end_stuck()
        state, reason = judge(self.facts())
        return self.reporter.tell_state(state, reason, self.listener.last_score, last=last)

    def health(self) -> MachineHealth:
        """Return how it is listened to."""
        listener, audio = self.listener, self.listener.audio
        return MachineHealth(
            name=listener.name,
            state=self.reporter.state,
            reason=self.reporter.reason,
            blocks=listener.n_blocks,
            windows=listener.windows,
            gaps=audio.gaps,
            overruns=audio.overruns,
            real_time_factor=listener.real_time_factor,
            late_s=listener.late_s,
            restarts=self._back_off.n_failures,
            level_dbfs=audio.level_dbfs,
            drift_ppm=listener.drift_ppm,
            model=self.reporter.identity,
            model_fault=self._model_fault,
            calibration=self._calibration_health(),
        )

    def _calibration_health(self) -> CalibrationHealth:
        calibrated, made, fit = (
            self._detector.calibrated,
            self._detector.calibration,
            self.listener.fit,
        )
        warnings = ["" if calibrated is None else calibrated.warning, *self._misfits(fit)]
        return CalibrationHealth(
            version=None if made is None else made.number,
            warning="; ".join(filter(None, warnings)),
            score_drift=fit.drift,
            alarms=fit.alarms,
        )

    def _misfits(self, fit: Fit) -> list[str]:
        """Return why model and calibration do not fit the sound, in words with the remedy.

        Without numbers: what is told again with another one would be news each time.
        """
        remedy = (
            "look at the machine and its microphone; if they are well, run "
            f"'edgeasd calibrate {self.config.name}' on the sound of today"
        )
        lost = lost_band(self._source.sample_rate, self._detector.model.document.features)
        found = [lost] if lost else []
        if fit.drift is not None and fit.drift.drifted:
            side = "above" if fit.drift.shift > 0.0 else "below"
            found.append(f"for half a day scores lay {side} those at calibration: {remedy}")
        if fit.alarms is not None and fit.alarms.too_many:
            found.append(f"alarms come far more often than calibration foresaw: {remedy}")
        return found

    def _make_detector(self, config: MachineConfig, model: Model) -> Detector:
        calibrated = calibrated_model(config, model)
        if calibrated.warning:
            _log.warning("%s: %s", config.name, calibrated.warning)
        return replace(
            make_detector(calibrated.model, config.section, config.alarm), calibrated=calibrated
        )

    def _log_detector(self) -> None:
        detector = self._detector
        _log.info(
            "%s: model %s, sha256 %.12s, threshold %.3f, clear threshold %.3f (%s)",
            self.config.name,
            detector.model.document.id,
            detector.model.sha256,
            detector.alarm.threshold,
            detector.alarm.clear_threshold,
            "" if detector.calibrated is None else detector.calibrated.origin,
        )
