"""The command line: data on standard output, all else on standard error."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from edgeasd import __version__
from edgeasd.cli.check.command import check
from edgeasd.cli.demo.command import demo
from edgeasd.cli.errors import Group
from edgeasd.cli.listen.command import devices, listen
from edgeasd.cli.offline import calibrate, explain, learn, model, score
from edgeasd.cli.options import config_option
from edgeasd.cli.record.command import record
from edgeasd.cli.watch.command import watch
from edgeasd.common.config.file import load_config
from edgeasd.common.output import say
from edgeasd.common.text import LineFormatter
from edgeasd.service.process import signals
from edgeasd.service.process.systemd import JournalFormatter, is_journal

_OUTPUT_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE)
_log = logging.getLogger(__name__)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeasd")
def main() -> None:
    """Listen to machines, and raise an MQTT alert when one stops sounding like itself."""


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


for command in (
    *(demo, devices, listen, record, score, learn, calibrate, check, explain, watch, model),
):
    main.add_command(command)


def start() -> None:
    """Run the command line as a program."""
    if sys.stdout is None:  # closed by the caller, as by ``>&-``
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error("edgeasd", _encode_anyway)
        sys.stdout.reconfigure(errors="edgeasd")
    _log_to_stderr()
    sys.excepthook = _log_bug
    threading.excepthook = lambda args: _log_bug(args.exc_type, args.exc_value, args.exc_traceback)
    try:
        try:
            main(prog_name="edgeasd")
        finally:
            # A failure is told below; at the end of the interpreter, Python would print its own.
            sys.stdout.flush()
    except SystemExit as exc:
        _leave_stuck_microphones(exc.code)
        raise
    except OSError as exc:
        if exc.errno not in _OUTPUT_REFUSED:
            raise
        # The rest of the buffer cannot be written; Python would try once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if exc.errno != errno.EPIPE:  # a broken pipe is no error: head(1) has read enough
            say(
                f"edgeasd: the output cannot be written ({exc.strerror}); free some of its disk, "
                "or choose another file",
                err=True,
            )
        _leave_stuck_microphones(os.EX_IOERR)
        sys.exit(os.EX_IOERR)


def _leave_stuck_microphones(code: Any) -> None:
    """End the process at once if a device hangs, as the clean-up of the audio library would too."""
    if any(thread.name.startswith("microphone") for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _encode_anyway(exc: UnicodeError) -> tuple[str | bytes, int]:
    """Encode the bytes of file names that are not text as they are, other characters as ``?``."""
    try:
        return codecs.lookup_error("surrogateescape")(exc)
    except UnicodeError:
        return codecs.lookup_error("replace")(exc)


def _log_bug(
    kind: type[BaseException], exc: BaseException | None, traceback: TracebackType | None
) -> None:
    """Log an exception that nobody caught, cleaned like all else in the log."""
    if exc is None or issubclass(kind, (KeyboardInterrupt, SystemExit)):
        return
    _log.critical(
        "a bug of edgeasd; report it with the lines below", exc_info=(kind, exc, traceback)
    )


def _log_to_stderr() -> None:
    # No times: the journal adds them, and ts(1) does for a file.
    handler = logging.StreamHandler(sys.stderr)
    if is_journal(sys.stderr):
        handler.setFormatter(JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
