"""The command line: data on standard output, all else on standard error."""

from __future__ import annotations

import codecs
import csv
import errno
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from edgeasd import __version__
from edgeasd.cli.calibration_commands import calibrate, learn
from edgeasd.cli.commands import check, explain, listen, record, watch
from edgeasd.cli.options import CHANNEL, PATH, config_option
from edgeasd.common.config_file import find_machine, load_config
from edgeasd.common.errors import AudioDeviceError, EdgeasdError
from edgeasd.common.output import say, say_json
from edgeasd.common.text import LineFormatter, printable
from edgeasd.service.process import signals
from edgeasd.service.process.systemd import JournalFormatter, is_journal

_OUTPUT_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE)
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_log = logging.getLogger(__name__)


def _invoke_with_extras(invoke: Callable[[click.Context], Any], ctx: click.Context) -> Any:
    try:
        return invoke(ctx)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] != "matplotlib":
            raise
        raise EdgeasdError(
            "pictures need matplotlib; install it with: pip install 'edgeasd[plot]'"
        ) from exc


class _Group(click.Group):
    """Turns an `EdgeasdError` into a message and its exit code, in this one place."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return _invoke_with_extras(super().invoke, ctx)
        except EdgeasdError as exc:
            _tell(exc)
            ctx.exit(exc.exit_code)
        except click.UsageError as exc:
            # It repeats what it was given, which may be the name of a file.
            raise click.UsageError(printable(exc.format_message()), exc.ctx) from exc


def _tell(error: EdgeasdError) -> None:
    severity = "<3>" if is_journal(sys.stderr) else ""
    for line in error.lines:
        say(f"{severity}edgeasd: {line}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeasd")
def main() -> None:
    """Listen to machines and tell over MQTT when one stops sounding like itself."""


@main.command()
@config_option
def run(config_path: Path) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    signals.hold()  # also where another program calls this
    from edgeasd.service.daemon import Daemon

    config = load_config(config_path)
    logging.getLogger().setLevel(config.log_level.upper())
    daemon = Daemon(config, config_path)
    daemon.follow_signals()
    daemon.run()


@main.command()
def demo() -> None:
    """Run the daemon on a simulated machine and print what an MQTT subscriber receives.

    Takes a minute.  An MQTT broker is embedded; nothing else is needed.
    """
    from edgeasd.cli.demo.demo import run_demo

    sys.exit(0 if run_demo() else 1)


@main.command()
@config_option
@click.option("--machine", help="Machine of the configuration that the recordings are of.")
@click.option("--model", "model_path", type=PATH, help="Model file; no configuration is read then.")
@click.option("--section", default="", help="Section of the sound, if the model has several.")
@click.option(
    "--channel", type=CHANNEL, default=0, show_default=True, help="Channel, counted from 0."
)
@click.option(
    "--per",
    type=click.Choice(["window", "clip"]),
    default="window",
    show_default=True,
    help="window: what the daemon would score, every 256 ms; clip: one score per file.",
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
    *,
    config_path: Path,
    machine: str | None,
    model_path: Path | None,
    section: str,
    channel: int,
    per: str,
    form: str,
    plot_folder: Path | None,
    files: tuple[Path, ...],
) -> None:
    """Score WAV or FLAC FILES exactly as the daemon does.

    With --machine by what was calibrated on site; with --model by what the model says itself.
    """
    from edgeasd.models.cache import open_model
    from edgeasd.offline.explain.run import replay_of
    from edgeasd.offline.replay import Replay
    from edgeasd.offline.score import score_rows

    if model_path is not None:
        replay = Replay(open_model(model_path), section, channel)
    elif machine is not None:
        replay = replay_of(find_machine(config_path, machine), channel)
    else:
        raise click.UsageError("name the --machine that FILES are of, or a --model")
    failures: list[EdgeasdError] = []

    def on_failure(error: EdgeasdError) -> None:
        failures.append(error)
        _tell(error)

    hidden = not sys.stderr.isatty()
    with click.progressbar(length=len(files), file=sys.stderr, hidden=hidden) as bar:
        rows = score_rows(
            replay,
            files,
            whole=per == "clip",
            pictures=plot_folder,
            on_failure=on_failure,
            progress=bar.update,
        )
        _print_rows(rows, form)
    if failures:
        sys.exit(failures[0].exit_code)


@main.command()
def devices() -> None:
    """List the microphones of this computer, a line of JSON each.

    What "device" says is to be written as microphone.device: it stays the same when numbers change.
    """
    from edgeasd.capture.microphone.devices import stable_name
    from edgeasd.capture.microphone.portaudio import list_devices
    from edgeasd.cli.listen import measure_level

    found = list_devices()
    if not found:
        say("edgeasd: no microphone is there; connect one", err=True)
    for device in found:
        finding: dict[str, Any]
        try:
            finding = {"level_dbfs": measure_level(device.full_name, 1.0)}
        except AudioDeviceError as exc:
            finding = {"error": str(exc)}
        name = {"device": stable_name(device, found)}
        say_json({**name, **asdict(device), **finding})


@main.command()
@click.argument("file", type=PATH)
def model(file: Path) -> None:
    """Print what the model FILE says about itself, as JSON."""
    from edgeasd.models.cache import open_model
    from edgeasd.models.calibration_file import describe_calibrations

    loaded = open_model(file)
    document = loaded.document.without_numbers()
    sites = describe_calibrations(file)
    say_json({"sha256": loaded.sha256, **document, "sites": sites}, indent=2)


for command in (listen, record, learn, calibrate, check, explain, watch):
    main.add_command(command)


def start() -> None:
    """Run the command line as a program."""
    if sys.stdout is None:  # it was closed, as by ``>&-``
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the end of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("edgeasd", _as_it_came)
        sys.stdout.reconfigure(errors="edgeasd")
    _log_to_stderr()
    sys.excepthook = _tell_bug
    threading.excepthook = lambda args: _tell_bug(args.exc_type, args.exc_value, args.exc_traceback)
    try:
        try:
            main(prog_name="edgeasd")
        finally:
            # At the interpreter's end it would complain in its own words.
            sys.stdout.flush()
    except SystemExit as exc:
        _leave_stuck_microphones(exc.code)
        raise
    except OSError as exc:
        if exc.errno not in _OUTPUT_REFUSED:
            raise
        # What is still in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if exc.errno != errno.EPIPE:  # head(1), for example, has read enough
            say(
                f"edgeasd: the output cannot be written ({exc.strerror}); free some of its disk, "
                "or choose another file",
                err=True,
            )
        _leave_stuck_microphones(os.EX_IOERR)
        sys.exit(os.EX_IOERR)


def _leave_stuck_microphones(code: Any) -> None:
    """End the process here if a device hangs: the audio library's clean-up would hang as well."""
    if any(thread.name.startswith("microphone") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


class _CsvOutput:
    """Standard output as the CSV writer's file: names of files are exact but on a terminal."""

    def write(self, line: str) -> None:
        sys.stdout.write(f"{printable(line[:-1])}\n" if sys.stdout.isatty() else line)


def _print_rows(rows: Iterable[dict[str, Any]], form: str) -> None:
    writer = csv.writer(_CsvOutput(), lineterminator="\n")
    for index, row in enumerate(rows):
        if form == "jsonl":
            say_json(row)
            continue
        if index == 0:
            writer.writerow(row)
        # A spreadsheet would take the name for a formula, and run it.
        is_formula = row["file"].startswith(_FORMULA_STARTS)
        writer.writerow({**row, "file": f"./{row['file']}" if is_formula else row["file"]}.values())


def _as_it_came(exc: UnicodeError) -> tuple[str | bytes, int]:
    """Encode names of files that are no text as they came, and what the terminal lacks as ``?``."""
    try:
        return codecs.lookup_error("surrogateescape")(exc)
    except UnicodeError:
        return codecs.lookup_error("replace")(exc)


def _tell_bug(
    kind: type[BaseException], exc: BaseException | None, traceback: TracebackType | None
) -> None:
    """Log what nobody caught: as all else in the log, cleaned of what came from elsewhere."""
    if exc is None or issubclass(kind, (KeyboardInterrupt, SystemExit)):
        return
    _log.critical(
        "a bug of edgeasd; report it with the lines below", exc_info=(kind, exc, traceback)
    )


def _log_to_stderr() -> None:
    # The journal adds the time; so does whoever redirects to a file with ts(1).
    handler = logging.StreamHandler(sys.stderr)
    if is_journal(sys.stderr):
        handler.setFormatter(JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
