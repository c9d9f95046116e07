"""From facts about a machine's sound and scores to its state; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeasd.detect.signal import WORDS, SignalState
from edgeasd.publish.payloads.state import State

_SILENT_AFTER_S = 2.0
_STALLED_AFTER_S = 5.0
_HUNG_AFTER_S = 10.0
"""After these seconds without progress only a restart helps; see `alive` and `hangs`."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one machine now.

    Attributes:
        fault: What the source says is wrong with it, in words; empty when all is well.
        hung: Whether the source waits for its device in vain, and cannot let go of it.
        sound_age_s: Seconds since the source last had sound, however late it is heard.
        loop_age_s: Seconds since the machine's thread last asked its source for sound.
        window_age_s: Seconds since a window was due; less than 0 until then.
        signal: What is wrong with the sound itself.
        alarm: Whether the alarm is raised.
        scored: Whether there was a score since the sound began or was interrupted.
        ended: Whether the source has come to its end.
        model_fault: Why the model could not score the latest sound; empty when it could.
        late: Whether sound waits for seconds, as the computer is too slow.
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
    """Return whether the machine's device hangs for so long that the process must be left.

    No call of the audio library ends it, and it holds the device until the process is gone.
    """
    return facts.hung and facts.sound_age_s > _HUNG_AFTER_S


def alive(machines: Iterable[Facts], *, network: bool) -> bool:
    """Return whether everything makes progress, so that the watchdog may be fed.

    A microphone that is known to be gone is waited for; one that hangs without a word, a scorer
    that does not return and a network thread that died are mended by a restart alone.  What failed
    is begun anew without one.
    """
    return network and not any(
        facts.loop_age_s > _HUNG_AFTER_S
        or _scores_nothing(facts)
        or hangs(facts)
        or (facts.sound_age_s > _HUNG_AFTER_S and not facts.fault)
        for facts in machines
        if not facts.failure
    )


def _is_stalled(facts: Facts) -> bool:
    return facts.loop_age_s > _STALLED_AFTER_S and not facts.ended


def _is_silent(facts: Facts) -> bool:
    return facts.sound_age_s > _SILENT_AFTER_S


def _scores_nothing(facts: Facts) -> bool:
    return facts.window_age_s > _HUNG_AFTER_S and not _is_silent(facts)
