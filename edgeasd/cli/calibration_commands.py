"""The commands that learn on site: a model on day one, and a threshold that means something."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgeasd.cli.options import CHANNEL, PATH, config_option, duration
from edgeasd.common.config_file import find_machine
from edgeasd.common.output import say

_channel_option = click.option(
    "--channel",
    type=CHANNEL,
    default=0,
    show_default=True,
    help="Channel of the files, counted from 0.",
)


def _finite(_context: click.Context, _option: click.Parameter, value: float) -> float:
    # Neither is outside of any range for click.
    if not math.isfinite(value):
        raise click.BadParameter(f"{value:g} must be a finite number")
    return value


@click.command()
@config_option
@_channel_option
@click.option("--replace", is_flag=True, help="Replace the model that is there.")
@click.argument("machine")
@click.argument("files", type=PATH, nargs=-1, required=True)
def learn(
    *, config_path: Path, channel: int, replace: bool, machine: str, files: tuple[Path, ...]
) -> None:
    """Learn a model of MACHINE from ten minutes or more of normal sound, in seconds.

    FILES are WAV or FLAC files and folders of them.  The model goes where the configuration expects
    it; a network that is trained later takes its place.
    """
    from edgeasd.offline.learn import learn_machine
    from edgeasd.offline.recordings.recordings import find_recordings

    config = find_machine(config_path, machine)
    recordings = find_recordings(files, channel)
    with _progress(sum(one.duration_s for one in recordings), "learning") as progress:
        learned = learn_machine(config, recordings, channel, over=replace, progress=progress)
    for line in learned.lines():
        say(line)


@click.command()
@config_option
@_channel_option
@click.option(
    "--false-alarms-per-week",
    "per_week",
    type=click.FloatRange(min=0.0, min_open=True),
    callback=_finite,
    default=1.0,
    show_default=True,
    help="What is accepted: 0.25 is one a month, 7 one a day, 168 one an hour.",
)
@click.option(
    "--duration", "duration_s", callback=duration, help="Of live sound without FILES, as 2h."
)
@click.option(
    "--add-references",
    "new",
    type=PATH,
    multiple=True,
    help="File or folder of new normal sound that shall count as normal; repeatable.",
)
@click.option("--plot", "picture", type=PATH, help="PNG file to draw: scores, rate and threshold.")
@click.option("--undo", is_flag=True, help="Take back the newest version.")
@click.argument("machine")
@click.argument("files", type=PATH, nargs=-1)
def calibrate(*, undo: bool, **options: Any) -> None:
    """Set the threshold of MACHINE from normal sound and a budget of false alarms.

    FILES are WAV or FLAC files, and folders of them, of normal sound that the model was not learned
    from.  Without FILES the machine's own microphone is listened to for --duration; called again,
    this continues what was interrupted.
    """
    from edgeasd.offline.calibration.calibrate import undo as take_back

    if undo:
        given = options["files"] or options["new"] or options["picture"]
        if given or math.isfinite(options["duration_s"]):
            raise click.UsageError("--undo takes a version back; leave all else out")
        for line in take_back(find_machine(options["config_path"], options["machine"])):
            say(line)
    else:
        _calibrate(**options)


def _calibrate(
    *,
    config_path: Path,
    machine: str,
    files: tuple[Path, ...],
    new: tuple[Path, ...],
    channel: int,
    per_week: float,
    duration_s: float,
    picture: Path | None,
) -> None:
    from edgeasd.common.config_file import load_config
    from edgeasd.offline.calibration.add_references import add_references, alarm_clips
    from edgeasd.offline.calibration.calibrate import calibrate
    from edgeasd.offline.recordings.recordings import find_recordings

    if picture is not None:
        # What it needs and is missing is told before the work, not after it.
        from edgeasd.offline.calibration.plot import draw_calibration
    config = find_machine(config_path, machine)
    if (files or new) and math.isfinite(duration_s):
        raise click.UsageError("--duration is of live sound; leave it or the files out")
    if not files and not new and math.isinf(duration_s):
        raise click.UsageError("name FILES of normal sound, or give --duration to listen live")
    recordings = find_recordings(files, channel)
    added = find_recordings(new, channel)
    total_s = sum(one.duration_s for one in (*recordings, *added)) or duration_s
    with _progress(total_s, "listening") as progress:
        if added:
            outcome = add_references(
                config,
                added,
                recordings,
                channel=channel,
                per_week=per_week,
                alarms=alarm_clips(load_config(config_path), machine),
                progress=progress,
            )
        else:
            outcome = calibrate(
                config,
                recordings,
                channel=channel,
                per_week=per_week,
                duration_s=duration_s,
                progress=progress,
                tell=_tell,
            )
    for line in outcome.lines():
        say(line)
    if picture is not None:
        draw_calibration(picture, config.name, outcome)


def _tell(text: str) -> None:
    # Above the bar, which is drawn again when it advances.
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    say(text, err=True)


@contextmanager
def _progress(total_s: float, label: str) -> Iterator[Any]:
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        length=round(total_s), label=label, file=sys.stderr, hidden=hidden
    ) as bar:
        behind = 0.0

        def advance(seconds: float) -> None:
            nonlocal behind
            behind += seconds
            # The bar counts in whole seconds.
            bar.update(int(behind))
            behind -= int(behind)

        yield advance
