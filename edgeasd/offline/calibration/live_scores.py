"""Scores hours of live sound so that an interruption loses at most a minute.

The scores are kept in a file beside the calibration file until a calibration has been made from
them.  If a cable, a kill or a power cut interrupts the command, the next call continues from there.
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

from edgeasd.capture.source import AudioSource, open_source
from edgeasd.common.config.keys import MachineConfig
from edgeasd.common.errors import AudioDeviceError, EdgeasdError, StorageError
from edgeasd.common.files.folders import open_locked, opened_folder
from edgeasd.common.interruption import interruptible
from edgeasd.common.text import rough_time
from edgeasd.common.types import AudioBlock
from edgeasd.models.calibration_file import CalibratedModel, calibration_path
from edgeasd.offline.calibration.scores import ScoreCollector

SCHEMA = "edgeasd.live/1"
_KEEP_EVERY_S = 60.0
_MOST_BYTES = 256 * 2**20
"""Bound of what is read; scores of six hours take 2 MB."""

_READ_TIMEOUT_S = 0.5
_SILENT_AFTER_S = 10.0
_N_PATIENCE = 60
"""Multiples of `_SILENT_AFTER_S` after which listening ends: ten minutes."""

Tell = Callable[[str], None]
"""Is called with a message for the user while the command listens."""


class KeptScores:
    """Keeps runs of scores in a file; to be used in a ``with`` statement.

    The first line of the file says which model and source the scores belong to.  Each further line
    holds the number of a run and scores of that run.

    Args:
        machine: Configuration of the machine.
        calibrated: Model and section that the scores belong to.

    Attributes:
        path: Path of the file.
        runs: Runs of earlier calls; the caller appends to them.
        began: When the first of those calls began, RFC 3339.
        is_of_another: Whether the file held scores of another model or source, which are dropped.

    Raises:
        StorageError: When entered, if the file cannot be written or another command writes it.
    """

    def __init__(self, machine: MachineConfig, calibrated: CalibratedModel) -> None:
        self.path = calibration_path(machine).with_suffix(".scores")
        self.runs: list[list[float]] = []
        self.began = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.is_of_another = False
        self._machine = machine.name
        self._of = _identity(machine, calibrated)
        self._held = ExitStack()
        # How much of `runs` is in the file: whole runs, and scores of the run after them.
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
                f"{self.path}: another command is listening to {self._machine!r}; wait until it "
                "ends"
            ) from exc
        except OSError as exc:
            raise StorageError(f"{self.path}: cannot be written ({exc.strerror})") from exc
        return self

    def __exit__(self, *_: object) -> None:
        if not any(self.runs):
            self.remove()
        self._held.close()

    def remove(self) -> None:
        """Remove the file, because a calibration was made from it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path.name, dir_fd=self._folder)

    def write(self) -> None:
        """Write to the disk what was appended to `runs`.

        Raises:
            OSError: If the file cannot be written; the next call tries again.
        """
        lines: list[Any] = []
        if not self._n_bytes:
            lines.append({"schema": SCHEMA, "began": self.began, "of": self._of})
        first = self._n_scores
        for number in range(self._n_runs, len(self.runs)):
            lines.append([number, self.runs[number][first:]])
            first = 0
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        # Replaces what the last attempt left on a full disk.
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
        """Read the file up to the first line that a power cut or anything else damaged."""
        n_bytes = os.fstat(self._file).st_size
        lines = os.pread(self._file, min(n_bytes, _MOST_BYTES), 0).splitlines(keepends=True)
        header: Any = _parsed(lines[0]) if lines else None
        try:
            began = datetime.fromisoformat(header["began"])
            self.is_of_another = (header["schema"], header["of"]) != (SCHEMA, self._of)
        except (TypeError, KeyError, ValueError):
            return  # not a file of scores
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
    """Add *line* to *runs* if it holds scores, and return whether it does."""
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
    """Return what scores must have in common to be used in one calibration."""
    document = calibrated.model.document
    section = document.sections[calibrated.section]
    # Scores depend on the references and distances, but not on the threshold.
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
        collector: Collects the scores, after those of earlier calls.
        kept: Keeps the scores on disk.
        duration_s: Seconds of sound wanted, including earlier calls.
        tell: Called with a message about what happens.

    Raises:
        AudioDeviceError: If the source is absent or delivers no sound for ten minutes.
        EdgeasdError: If Ctrl-C or SIGTERM interrupted.
    """
    collector.runs = kept.runs
    heard_s = collector.scores.duration_s
    if kept.is_of_another:
        tell(f"{kept.path} held scores of another model or source; they are discarded")
    if heard_s:
        tell(
            f"continuing from {rough_time(heard_s)} of {rough_time(duration_s)}, heard since "
            f"{kept.began}; remove {kept.path} to start again"
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
            "call the same command again to continue, or with a shorter --duration to set the "
            "threshold at once"
        )


def _keeping(blocks: Iterable[AudioBlock], kept: KeptScores, tell: Tell) -> Iterator[AudioBlock]:
    """Yield *blocks*, and write the scores made from them to disk every minute."""
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
        # The threshold can still be set if the command listens to the end.
        tell(f"{kept.path}: cannot be written ({exc.strerror}); free some space on its disk")


def live_blocks(
    source: AudioSource,
    duration_s: float,
    tell: Callable[[str], None] = lambda _: None,
    until: Callable[[], bool] = lambda: False,
) -> Iterator[AudioBlock]:
    """Yield *duration_s* seconds of sound from *source*.

    If the source delivers nothing, for example because a cable came off, it is waited for.

    Args:
        source: Source of the sound.
        duration_s: Seconds of sound.
        tell: Called with a message when the sound stops and when it returns.
        until: Returns whether to end early.

    Raises:
        AudioDeviceError: If the source delivers no sound for ten minutes.
    """
    wanted = round(duration_s * source.sample_rate)
    heard = 0
    sound_at = time.monotonic()
    is_told = False
    while heard < wanted and not source.ended and not until():
        block = source.read(_READ_TIMEOUT_S)
        silent_s = time.monotonic() - sound_at
        if block is not None:
            if is_told:
                tell(f"sound is back after {rough_time(silent_s)}")
                is_told = False
            sound_at = time.monotonic()
            heard += len(block.samples)
            yield block
        elif silent_s > _SILENT_AFTER_S:
            reason = source.fault or "the source delivers no sound"
            if silent_s > _N_PATIENCE * _SILENT_AFTER_S:
                raise AudioDeviceError(
                    f"no sound for {rough_time(silent_s)} ({reason}); call the command again to "
                    "continue"
                )
            if not is_told:
                tell(f"no sound for {_SILENT_AFTER_S:g} s ({reason}); waiting")
                is_told = True
