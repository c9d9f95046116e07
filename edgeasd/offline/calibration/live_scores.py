"""Hours of live sound to scores, of which a cable, a kill or a power cut takes a minute at most.

They are kept in a file beside the site file until a calibration was made of them; called again,
the command goes on from there.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

from edgeasd.capture.source import open_source
from edgeasd.common.config import MachineConfig
from edgeasd.common.errors import EdgeasdError, StorageError
from edgeasd.common.files.folders import open_locked, opened_folder
from edgeasd.common.interruption import interruptible
from edgeasd.common.text import rough_time
from edgeasd.common.types import AudioBlock
from edgeasd.models.calibration_file import CalibratedModel, calibration_path
from edgeasd.offline.calibration.scores import ScoreCollector, live_blocks

SCHEMA = "edgeasd.live/1"
_KEEP_EVERY_S = 60.0
_MOST_BYTES = 256 * 2**20
"""Six hours take 2 MB."""

Tell = Callable[[str], None]
"""Takes what is to be said meanwhile."""


class KeptScores:
    """Runs of scores in a file; to be used in a ``with`` statement.

    The file holds a line that says what the scores are of, and lines of scores: the number of the
    run that they belong to, and they.

    Args:
        machine: Configuration of the machine.
        calibrated: Model and section that the scores are of.

    Attributes:
        path: Path of the file.
        runs: Those of the calls before, to which others may be added.
        began: When the first of those calls began, RFC 3339.
        is_of_another: Whether the file held scores of another model or source; they go.

    Raises:
        StorageError: When entered, if the file cannot be written, or another command writes it.
    """

    def __init__(self, machine: MachineConfig, calibrated: CalibratedModel) -> None:
        self.path = calibration_path(machine).with_suffix(".scores")
        self.runs: list[list[float]] = []
        self.began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.is_of_another = False
        self._machine = machine.name
        self._of = _identity(machine, calibrated)
        self._held = ExitStack()
        # What of `runs` is in the file already: whole runs, and scores of the one after them.
        self._n_runs = self._n_scores = 0
        self._n_bytes = 0

    def __enter__(self) -> KeptScores:  # noqa: PYI034 - Self came with Python 3.11
        try:
            with ExitStack() as held:
                self._folder = held.enter_context(opened_folder(self.path.parent))
                self._file = open_locked(self.path.name, folder=self._folder)
                held.callback(os.close, self._file)
                self._read()
                self._held = held.pop_all()
        except BlockingIOError as exc:
            raise StorageError(
                f"{self.path}: another command listens to {self._machine!r}; wait for its end"
            ) from exc
        except OSError as exc:
            raise StorageError(f"{self.path}: cannot be written ({exc.strerror})") from exc
        return self

    def __exit__(self, *_: object) -> None:
        if not any(self.runs):
            self.remove()
        self._held.close()

    def remove(self) -> None:
        """Remove the file: a calibration was made of what is in it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path.name, dir_fd=self._folder)

    def write(self) -> None:
        """Bring to the disk what was added to `runs`.

        Raises:
            OSError: If it cannot be written; the next call tries again.
        """
        lines: list[Any] = []
        if not self._n_bytes:
            lines.append({"schema": SCHEMA, "began": self.began, "of": self._of})
        first = self._n_scores
        for number in range(self._n_runs, len(self.runs)):
            lines.append([number, self.runs[number][first:]])
            first = 0
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        # Over what a full disk left of the last attempt.
        os.ftruncate(self._file, self._n_bytes)
        if os.pwrite(self._file, content, self._n_bytes) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._file)
        self._n_bytes += len(content)
        self._mark_as_written()

    def _mark_as_written(self) -> None:
        self._n_runs = max(0, len(self.runs) - 1)
        self._n_scores = len(self.runs[-1]) if self.runs else 0

    def _read(self) -> None:
        """Take in what the file holds, up to where a power cut or anything else spoiled it."""
        n_bytes = os.fstat(self._file).st_size
        lines = os.pread(self._file, min(n_bytes, _MOST_BYTES), 0).splitlines(keepends=True)
        header: Any = _parsed(lines[0]) if lines else None
        try:
            began = datetime.fromisoformat(header["began"])
            self.is_of_another = (header["schema"], header["of"]) != (SCHEMA, self._of)
        except (TypeError, KeyError, ValueError):
            return  # it is something else
        if self.is_of_another:
            return
        self.began = began.isoformat()
        self._n_bytes = len(lines[0])
        for line in lines[1:]:
            if not _add(_parsed(line), self.runs):
                break
            self._n_bytes += len(line)
        self._mark_as_written()


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None


def _add(line: Any, runs: list[list[float]]) -> bool:
    """Add a line of scores to *runs*, and return whether it is one."""
    if not isinstance(line, list) or len(line) != 2:  # noqa: PLR2004
        return False
    number, scores = line
    if number not in (len(runs) - 1, len(runs)) or not isinstance(scores, list):
        return False
    if number < 0 or not all(isinstance(one, float) and math.isfinite(one) for one in scores):
        return False
    if number == len(runs):
        runs.append([])
    runs[number] += scores
    return True


def _identity(machine: MachineConfig, calibrated: CalibratedModel) -> dict[str, str]:
    """Return what scores must have in common to be of one calibration."""
    document = calibrated.model.document
    section = document.sections[calibrated.section]
    # Of what was learned on site: scores do not depend on the threshold.
    learned = repr((section.references, document.distances))
    return {
        "model": calibrated.model.sha256,
        "section": section.name,
        "learned": sha256(learned.encode()).hexdigest(),
        "source": repr(machine.source),
    }


def listen(
    machine: MachineConfig,
    collector: ScoreCollector,
    kept: KeptScores,
    duration_s: float,
    tell: Tell,
) -> None:
    """Score the live sound of *machine* until there are scores of *duration_s* seconds.

    Args:
        machine: Configuration of the machine.
        collector: Takes the scores, behind those that are kept already.
        kept: Where they are kept.
        duration_s: Seconds, with those of earlier calls.
        tell: Is told what happens meanwhile.

    Raises:
        AudioDeviceError: If the source is not there, or gives no sound for ten minutes.
        EdgeasdError: If Ctrl-C or SIGTERM asked for the end.
    """
    collector.runs = kept.runs
    heard_s = collector.scores.duration_s
    if kept.is_of_another:
        tell(f"{kept.path} held scores of another model or source, which are of no use now")
    if heard_s:
        tell(
            f"going on from {rough_time(heard_s)} of {rough_time(duration_s)}, heard since "
            f"{kept.began}; remove {kept.path} to begin anew"
        )
        collector.progress(heard_s)
    if heard_s >= duration_s:
        return
    with closing(open_source(machine.source)) as source, interruptible() as asked:
        left_s = duration_s - heard_s
        blocks = live_blocks(source, left_s, tell, until=lambda: asked.requested)
        try:
            collector.add(_keeping(blocks, kept, tell), source_rate=source.sample_rate)
        finally:
            _keep(kept, tell)
    if asked.requested:
        raise EdgeasdError(
            f"stopped at {rough_time(collector.scores.duration_s)} of {rough_time(duration_s)}; "
            f"the same command goes on, and with a shorter --duration sets the threshold at once"
        )


def _keeping(blocks: Iterable[AudioBlock], kept: KeptScores, tell: Tell) -> Iterator[AudioBlock]:
    """Yield *blocks*, and keep every minute the scores that were made of them."""
    kept_s = time.monotonic()
    for block in blocks:
        yield block
        if time.monotonic() - kept_s >= _KEEP_EVERY_S:
            _keep(kept, tell)
            kept_s = time.monotonic()


def _keep(kept: KeptScores, tell: Tell) -> None:
    try:
        kept.write()
    except OSError as exc:
        # Whoever listens to the end has a threshold all the same.
        tell(f"{kept.path}: cannot be written ({exc.strerror}); free some of its disk")
