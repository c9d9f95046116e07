"""``edgeasd calibrate``: from the files that are named to a stored calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from edgeasd.common.config.file import find_machine, load_config
from edgeasd.offline.calibration.add_references import add_references, alarm_clips
from edgeasd.offline.calibration.calibrate import calibrate
from edgeasd.offline.calibration.live_scores import Tell
from edgeasd.offline.calibration.outcome import Outcome
from edgeasd.offline.recordings.recordings import Progress, find_recordings


def run_calibration(
    config_path: Path,
    name: str,
    *,
    files: Sequence[Path],
    new: Sequence[Path],
    channel: int,
    per_week: float,
    duration_s: float,
    progress_of: Callable[[float], AbstractContextManager[Progress]],
    tell: Tell,
) -> Outcome:
    """Calibrate a machine by files or live sound, and add new sound to what is normal if there is.

    Args:
        config_path: Path of the configuration file.
        name: Name of the machine.
        files: Files and folders of normal sound; without any, the machine is listened to.
        new: Files and folders of sound that is to count as normal too.
        channel: Channel of the files, counted from 0.
        per_week: False alarms a week that are accepted.
        duration_s: Seconds of live sound to listen for.
        progress_of: Is given the seconds of sound there are, and returns what shows the progress.
        tell: Is told what happens while the machine is listened to.

    Raises:
        EdgeasdError: If `add_references` or `calibrate` refuses the sound or the model.
    """
    machine = find_machine(config_path, name)
    old, added = find_recordings(files, channel), find_recordings(new, channel)
    total_s = sum(one.duration_s for one in (*old, *added)) or duration_s
    with progress_of(total_s) as progress:
        if not added:
            return calibrate(
                machine,
                old,
                channel=channel,
                per_week=per_week,
                duration_s=duration_s,
                progress=progress,
                tell=tell,
            )
        return add_references(
            machine,
            added,
            old,
            channel=channel,
            per_week=per_week,
            alarms=alarm_clips(load_config(config_path), name),
            progress=progress,
        )
