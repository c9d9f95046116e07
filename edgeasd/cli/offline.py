"""The commands for recordings and models: score, explain, learn, calibrate, model.

Each imports what it needs when it is called, so that ``edgeasd --help`` is quick.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeasd.cli.errors import say_error
from edgeasd.cli.options import PATH, channel_option, config_option, duration, scorer_options
from edgeasd.common.config.file import find_machine
from edgeasd.common.errors import EdgeasdError
from edgeasd.common.output import say, say_json, say_rows

if TYPE_CHECKING:
    from edgeasd.offline.replay import Replay


@click.command()
@scorer_options
@click.option(
    "--per",
    type=click.Choice(["window", "clip"]),
    default="window",
    show_default=True,
    help="window: one score every 256 ms, as in the daemon; clip: one score per file.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="JSON lines or CSV.",
)
@click.option(
    "--plot",
    "plot_folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder for a picture of each file: log-mel, scores, threshold, alarms.",
)
@click.argument("files", type=PATH, nargs=-1, required=True)
def score(
    *, per: str, form: str, plot_folder: Path | None, files: tuple[Path, ...], **scorer: Any
) -> None:
    """Score WAV or FLAC FILES exactly as the daemon does.

    --machine uses the calibration of that machine; --model uses the thresholds in the model file.
    """
    replay = _replay(**scorer)
    if replay is None:
        raise click.UsageError("name the --machine that FILES are of, or a --model")
    sys.exit(_score(replay, files, whole=per == "clip", form=form, pictures=plot_folder))


@click.command()
@scorer_options
@click.option(
    "--normal",
    "normal_files",
    type=PATH,
    multiple=True,
    help="Recording of normal sound to compare with, in place of what the model holds; repeatable.",
)
@click.option("--picture", type=PATH, help="PNG file to draw: spectrum, bands and moments.")
@click.argument("event")
def explain(
    *, normal_files: tuple[Path, ...], picture: Path | None, event: str, **scorer: Any
) -> None:
    """Tell what in a sound makes its score: bands, tones, impacts.

    EVENT is a recording (with --machine or --model), or the id of the start of an alarm, whose clip
    is then looked up.
    """
    from edgeasd.cli.terminal import progress
    from edgeasd.offline.explain.run import (
        Case,
        explain_file,
        find_event,
        plot_explanation,
        verdict,
    )

    replay = _replay(**scorer)
    case = Case(Path(event), replay) if replay else find_event(scorer["config_path"], event)
    with progress("explaining", None):
        explanation, normal = explain_file(case, normal_files)
    say(verdict(case, explanation))
    for words in explanation.words:
        say(words)
    if picture is not None:
        plot_explanation(picture, case, explanation, normal)


@click.command()
@config_option
@channel_option
@click.option("--replace", is_flag=True, help="Replace an existing model.")
@click.argument("machine")
@click.argument("files", type=PATH, nargs=-1, required=True)
def learn(
    *, config_path: Path, channel: int, replace: bool, machine: str, files: tuple[Path, ...]
) -> None:
    """Learn a model of MACHINE from ten minutes or more of normal sound, in seconds.

    FILES are WAV or FLAC files, or folders of them.  The model is written where the configuration
    expects it; a network that is trained later replaces it.
    """
    from edgeasd.cli.terminal import progress
    from edgeasd.offline.learn import learn_machine
    from edgeasd.offline.recordings.recordings import find_recordings

    config = find_machine(config_path, machine)
    recordings = find_recordings(files, channel)
    with progress("learning", sum(one.duration_s for one in recordings)) as advance:
        learned = learn_machine(config, recordings, channel, over=replace, progress=advance)
    for line in learned.lines():
        say(line)


def _finite(_context: click.Context, _option: click.Parameter, value: float) -> float:
    # To click, neither NaN nor infinity is out of any range.
    if not math.isfinite(value):
        raise click.BadParameter(f"{value:g} must be a finite number")
    return value


@click.command()
@config_option
@channel_option
@click.option(
    "--false-alarms-per-week",
    "per_week",
    type=click.FloatRange(min=0.0, min_open=True),
    callback=_finite,
    default=1.0,
    show_default=True,
    help="False alarms that you accept: 0.25 is one a month, 7 one a day, 168 one an hour.",
)
@click.option(
    "--duration",
    "duration_s",
    callback=duration,
    help="Without FILES: how long to listen, for example 2h.",
)
@click.option(
    "--add-references",
    "new",
    type=PATH,
    multiple=True,
    help="File or folder of new sound that is to count as normal; repeatable.",
)
@click.option("--plot", "picture", type=PATH, help="PNG file to draw: scores, rate and threshold.")
@click.option("--undo", is_flag=True, help="Remove the newest version of the calibration.")
@click.argument("machine")
@click.argument("files", type=PATH, nargs=-1)
def calibrate(
    *, undo: bool, picture: Path | None, config_path: Path, machine: str, **sound: Any
) -> None:
    """Set the threshold of MACHINE from normal sound and a budget of false alarms.

    FILES are WAV or FLAC files, or folders of them, of normal sound that the model was not learned
    from.  Without FILES, the microphone of the machine is listened to for --duration; the same
    command continues after an interruption.
    """
    _refuse_contradiction(undo=undo, picture=picture, **sound)
    if undo:
        from edgeasd.offline.calibration.calibrate import undo as remove_newest

        for line in remove_newest(find_machine(config_path, machine)):
            say(line)
        return
    if picture is not None:
        # If the extra is missing, this is told before the work rather than after it.
        from edgeasd.offline.calibration.plot import draw_calibration
    from edgeasd.cli.terminal import progress
    from edgeasd.offline.calibration.run import run_calibration

    outcome = run_calibration(
        config_path,
        machine,
        progress_of=partial(progress, "calibrating"),
        tell=partial(say, err=True),
        **sound,
    )
    for line in outcome.lines():
        say(line)
    if picture is not None:
        draw_calibration(picture, machine, outcome)


@click.command()
@click.argument("file", type=PATH)
def model(file: Path) -> None:
    """Print what the model FILE says about itself, as JSON."""
    from edgeasd.models.cache import open_model
    from edgeasd.models.calibration_file import describe_calibrations

    loaded = open_model(file)
    document = {"sha256": loaded.sha256, **loaded.document.without_numbers()}
    say_json({**document, "sites": describe_calibrations(file)}, indent=2)


def _score(
    replay: Replay, files: Sequence[Path], *, whole: bool, form: str, pictures: Path | None
) -> int:
    """Print the scores of *files*, and return the exit code of the first that cannot be scored."""
    from edgeasd.cli.terminal import progress
    from edgeasd.offline.score import score_rows

    failures: list[EdgeasdError] = []

    def on_failure(error: EdgeasdError) -> None:
        failures.append(error)
        say_error(error)

    # On a terminal, the rows themselves show the progress, and would run through a bar.
    with progress("scoring", len(files), hidden=sys.stdout.isatty()) as advance:
        rows = score_rows(
            replay, files, whole=whole, pictures=pictures, on_failure=on_failure, progress=advance
        )
        say_rows(rows, form)
    return failures[0].exit_code if failures else 0


def _replay(
    config_path: Path, machine: str | None, model_path: Path | None, section: str, channel: int
) -> Replay | None:
    """Return what scores a recording by the `scorer_options`; None if they name nothing."""
    from edgeasd.models.cache import open_model
    from edgeasd.offline.explain.run import replay_of
    from edgeasd.offline.replay import Replay

    if model_path is not None:
        return Replay(open_model(model_path), section, channel)
    return replay_of(find_machine(config_path, machine), channel) if machine is not None else None


def _refuse_contradiction(
    *,
    undo: bool,
    picture: Path | None,
    files: tuple[Path, ...],
    new: tuple[Path, ...],
    duration_s: float,
    **_rest: Any,
) -> None:
    """Check that the options of ``calibrate`` ask for one thing.

    Raises:
        click.UsageError: If they do not.
    """
    has_duration, has_files = math.isfinite(duration_s), bool(files or new)
    if undo:
        if has_files or has_duration or picture is not None:
            raise click.UsageError("--undo removes the newest version; give nothing else with it")
    elif has_files and has_duration:
        raise click.UsageError("--duration is for live sound; leave out either it or the files")
    elif not has_files and not has_duration:
        raise click.UsageError("name FILES of normal sound, or give --duration to listen live")
