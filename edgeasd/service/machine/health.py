"""Judges the state of a machine by the facts about its sound and its scores; pure.

Whoever looks for the reason of a state finds it in the table of `judge`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeasd.baseline.validity import Fit
from edgeasd.detect.features import lost_band
from edgeasd.detect.signal import WORDS, SignalState
from edgeasd.models.detector import Detector
from edgeasd.publish.payloads.health import CalibrationHealth
from edgeasd.publish.payloads.state import State

_SILENT_AFTER_S = 2.0
"""Seconds without sound after which the machine counts as not heard."""
_STALLED_AFTER_S = 5.0
"""Seconds in one block after which its scorer counts as stalled."""
_HUNG_AFTER_S = 10.0
"""Seconds without progress after which only a restart helps; see `alive` and `hangs`."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted at one machine since the daemon began to listen to it.

    Attributes:
        blocks: Blocks of sound received.
        windows: Windows scored.
        gaps: Interruptions of the stream.
        overruns: Losses of sound in a device, or because the computer was too slow.
    """

    blocks: int = 0
    windows: int = 0
    gaps: int = 0
    overruns: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one machine now.

    Attributes:
        fault: Fault of the source, in words; empty when all is well.
        hung: Whether the source waits for its device in vain and cannot let go of it.
        sound_age_s: Seconds since the source last had sound, however late it is heard.
        loop_age_s: Seconds since the machine's thread last asked its source for sound.
        window_age_s: Seconds since a window was due; negative until then.
        signal: Defect of the sound itself.
        alarm: Whether the alarm is raised.
        scored: Whether there was a score since the sound began or was interrupted.
        ended: Whether the source has come to its end.
        model_fault: Why the model could not score the latest sound; empty when it could.
        late: Whether sound waits for seconds because the computer is too slow.
        failure: Why nothing listens now, in words; empty when something does.
    """

    fault: str
    hung: bool
    sound_age_s: float
    loop_age_s: float
    window_age_s: float
    signal: SignalState
    alarm: bool
    scored: bool
    ended: bool = False
    model_fault: str = ""
    late: bool = False
    failure: str = ""


def judge(facts: Facts) -> tuple[State, str]:
    """Return the state of a machine and the reason in words, empty when all is well.

    What hides the machine comes before what the machine does: an alarm that was raised before the
    microphone went dead may long be over.
    """
    verdicts: tuple[tuple[bool, State, str], ...] = (
        (facts.failure != "", "stale", facts.failure),
        (_is_stalled(facts), "stale", "the scorer does not return"),
        (_scores_nothing(facts), "stale", "sound comes, but no window is scored"),
        (facts.fault != "", "no_audio", facts.fault),
        (_is_silent(facts) and facts.ended, "no_audio", "the recording has come to its end"),
        (_is_silent(facts), "no_audio", "the source delivers no sound"),
        (
            facts.signal == "flat_signal",
            "flat_signal",
            WORDS["flat_signal"],
        ),
        (facts.model_fault != "", "stale", facts.model_fault),
        (facts.alarm, "alarm", "the machine does not sound like itself"),
        (
            facts.late,
            "stale",
            "scores come late, as this computer is too slow for its machines; listen to fewer",
        ),
        (
            facts.signal == "clipping",
            "clipping",
            WORDS["clipping"],
        ),
        (
            facts.signal == "too_quiet",
            "too_quiet",
            WORDS["too_quiet"],
        ),
        (not facts.scored, "learning", "listening until there is enough sound for a score"),
    )
    return next(((state, reason) for holds, state, reason in verdicts if holds), ("ok", ""))


def hangs(facts: Facts) -> bool:
    """Return whether the machine's device has hung for so long that the process must end.

    No call of the audio library returns then, and the device is held until the process has ended.
    """
    return facts.hung and facts.sound_age_s > _HUNG_AFTER_S


def alive(machines: Iterable[Facts], *, network: bool) -> bool:
    """Return whether everything makes progress, so that the watchdog may be fed.

    Only a restart mends a microphone that hangs without an error, a scorer that does not return,
    or a network thread that died.  A microphone that is known to be away is waited for, and
    listening that failed begins anew; neither needs a restart.
    """
    return network and not any(
        facts.loop_age_s > _HUNG_AFTER_S
        or _scores_nothing(facts)
        or hangs(facts)
        or (facts.sound_age_s > _HUNG_AFTER_S and not facts.fault)
        for facts in machines
        if not facts.failure
    )


def misfits(machine: str, source_rate: int, detector: Detector, fit: Fit) -> list[str]:
    """Return why model and calibration do not fit the sound, in words with the remedy.

    There are no numbers in the words: with another number they would be news each time.
    """
    remedy = (
        "look at the machine and its microphone; if they are well, run "
        f"'edgeasd calibrate {machine}' on the sound of today"
    )
    lost = lost_band(source_rate, detector.model.document.features)
    found = [lost] if lost else []
    if fit.drift is not None and fit.drift.drifted:
        side = "above" if fit.drift.shift > 0.0 else "below"
        found.append(f"for half a day scores lay {side} those at calibration: {remedy}")
    if fit.alarms is not None and fit.alarms.too_many:
        found.append(f"alarms come far more often than calibration foresaw: {remedy}")
    return found


def calibration_health(detector: Detector, fit: Fit, misfits: list[str]) -> CalibrationHealth:
    """Return what the threshold of a machine rests on, with everything that is wrong with it."""
    calibrated, made = detector.calibrated, detector.calibration
    warnings = ["" if calibrated is None else calibrated.warning, *misfits]
    return CalibrationHealth(
        version=None if made is None else made.number,
        warning="; ".join(filter(None, warnings)),
        score_drift=fit.drift,
        alarms=fit.alarms,
    )


def _is_stalled(facts: Facts) -> bool:
    return facts.loop_age_s > _STALLED_AFTER_S and not facts.ended


def _is_silent(facts: Facts) -> bool:
    return facts.sound_age_s > _SILENT_AFTER_S


def _scores_nothing(facts: Facts) -> bool:
    return facts.window_age_s > _HUNG_AFTER_S and not _is_silent(facts)
