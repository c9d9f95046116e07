"""Checks that there is enough normal sound, and not more than fits into memory."""

from __future__ import annotations

from collections.abc import Sequence

from edgeasd.baseline.alarm_rate import LEAST_DECISIONS, NormalScores
from edgeasd.common.errors import AudioFileError
from edgeasd.offline.recordings.recordings import Recording

_MOST_S = 86_400.0
"""Embeddings of all sound are held in memory, 7 to 11 MB an hour."""


def refuse_too_much(recordings: Sequence[Recording]) -> None:
    """Check that *recordings* fit into memory.

    Raises:
        AudioFileError: If they are too long.
    """
    refuse_longer(sum(one.duration_s for one in recordings))


def refuse_longer(duration_s: float) -> None:
    """Check that *duration_s* seconds of sound fit into memory.

    Called again while reading, because the header of a file may give a wrong length.

    Raises:
        AudioFileError: If that is too long.
    """
    if duration_s > _MOST_S:
        raise AudioFileError(
            f"normal sound={duration_s / 3600.0:.0f} h must be at most {_MOST_S / 3600.0:.0f} h; "
            "leave some files out"
        )


def refuse_too_little(sound_s: float, least_s: float, notes: Sequence[str] = ()) -> None:
    """Check that there is enough sound to learn from.

    Args:
        sound_s: Seconds of sound.
        least_s: Seconds that are needed.
        notes: What else the user must know about the sound.

    Raises:
        AudioFileError: If there is too little; the message says how much more is needed.
    """
    if sound_s < least_s:
        raise _too_little(sound_s, least_s, notes)


def refuse_too_few(scores: NormalScores, raise_after: int = 1, notes: Sequence[str] = ()) -> None:
    """Check that there are enough scores to set a threshold.

    Args:
        scores: Scores of normal sound.
        raise_after: Consecutive scores that raise the alarm; one run must be at least as long.
        notes: What else the user must know about the sound.

    Raises:
        AudioFileError: If there are too few; the message says how much more sound is needed.
    """
    in_a_row = any(len(run) >= raise_after for run in scores.runs)
    if scores.decisions < LEAST_DECISIONS or not in_a_row:
        score_s = scores.span / scores.sample_rate
        least_s = (LEAST_DECISIONS + 1) * score_s
        raise _too_little(scores.duration_s + score_s, least_s, notes)


def _too_little(sound_s: float, least_s: float, notes: Sequence[str]) -> AudioFileError:
    missing_s = max(least_s - sound_s, 6.0)  # shown in tenths of a minute
    return AudioFileError(
        "; ".join(
            [
                f"normal sound={sound_s / 60.0:.1f} min must be at least {least_s / 60.0:.1f} min "
                f"in pieces of 10 s or more that are not silent; record {missing_s / 60.0:.1f} min "
                "more",
                *notes,
            ]
        )
    )
