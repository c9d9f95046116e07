"""Records normal sound of a machine into the folder that a model is learned from."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace

from rich.console import Group
from rich.live import Live
from rich.text import Text

from edgeasd.capture.source import AudioSource, open_source
from edgeasd.cli.terminal import picture_on, progress_bar
from edgeasd.common.config.keys import MachineConfig, SimulatorConfig, SourceConfig
from edgeasd.common.errors import AudioDeviceError
from edgeasd.common.interruption import Interruption, interruptible
from edgeasd.common.output import say
from edgeasd.common.text import clock_time, printable
from edgeasd.detect.features import FeatureSpec, lost_band
from edgeasd.offline.recordings.cutter import CLIP_S, Cutter, Stretch
from edgeasd.offline.recordings.folder import LOG_NAME, Place, RecordingFolder

_READ_TIMEOUT_S = 0.5
_HUNG_AFTER_S = 10.0
"""Seconds without a sample after which only a new start helps, as in the daemon."""
_USELESS_S = 600.0
"""Seconds of unusable sound after which the command gives up: long enough for a passing fault, and
short enough that nobody finds an empty folder after two hours."""
_REDRAW_S = 0.5
"""Seconds between two updates of the progress bar."""
_LINE_EVERY_S = 60.0
"""Seconds between two lines of progress where there is no terminal."""


@dataclass(slots=True)
class _Tally:
    """What has become of the sound so far, in this call."""

    n_added: int = 0
    level_dbfs: float = -math.inf
    lowest_dbfs: float = math.inf
    highest_dbfs: float = -math.inf
    n_clipped: int = 0
    flaws: Counter[str] = field(default_factory=Counter)
    left_out_s: float = 0.0
    useless_s: float = 0.0

    def add(self, stretch: Stretch) -> None:
        self.n_added += 1
        self.useless_s = 0.0
        self.level_dbfs = stretch.levels.rms_dbfs
        self.lowest_dbfs = min(self.lowest_dbfs, self.level_dbfs)
        self.highest_dbfs = max(self.highest_dbfs, self.level_dbfs)
        self.n_clipped += stretch.levels.n_clipped

    def leave_out(self, stretch: Stretch, duration_s: float) -> None:
        self.flaws[stretch.flaw] += 1
        self.left_out_s += duration_s
        self.useless_s += duration_s

    @property
    def left_out(self) -> str:
        """How many stretches of sound were left out, and why."""
        reasons = ", ".join(f"{flaw} {count}" for flaw, count in self.flaws.items())
        return f"left out {self.flaws.total()} ({reasons})" if reasons else "left out 0"


def record_clips(machine: MachineConfig, place: Place, duration_s: float) -> None:
    """Record until *place* holds clips of *duration_s*, the source ends, or Ctrl-C.

    Clips that *place* holds already count.  Progress and what is left out are told on stderr.

    Raises:
        AudioDeviceError: If the source is not there, hangs, or delivers nothing that is usable.
        AudioFileError: If the source is a file that cannot be read.
        StorageError: If the disk is full or cannot be written.
    """
    with closing(open_source(_healthy(machine.source))) as source:
        clips = RecordingFolder(place)
        n_wanted = math.ceil(duration_s / CLIP_S)
        clips.require_space(max(0, n_wanted - clips.n_clips), source.sample_rate)
        recorder = _Recorder(machine.name, source, clips, n_wanted)
        with clips, interruptible() as interruption:
            try:
                recorder.run(interruption)
            finally:
                recorder.summarise(place)


def _healthy(source: SourceConfig) -> SourceConfig:
    """Return *source* without its fault: what is recorded is normal sound."""
    return replace(source, fault_duration_s=0.0) if isinstance(source, SimulatorConfig) else source


class _Recorder:
    """Cuts the sound of a source into clips, keeps those that are usable, and shows the progress.

    Args:
        name: Name of the machine.
        source: Source of the sound.
        folder: Folder of the clips.
        n_wanted: Clips that the folder is to hold in the end.
    """

    def __init__(
        self, name: str, source: AudioSource, folder: RecordingFolder, n_wanted: int
    ) -> None:
        self._name = name
        self._source = source
        self._folder = folder
        self._n_wanted = n_wanted
        self._cutter = Cutter(source.sample_rate)
        self._tally = _Tally()
        self._bar = progress_bar()
        self._bar.add_task("", total=n_wanted * CLIP_S)
        self._shown_s = -math.inf
        self._sound_s = time.monotonic()

    def run(self, interruption: Interruption) -> None:
        """Record until the end."""
        lost = lost_band(self._source.sample_rate, FeatureSpec())
        if lost:
            self._say(f"warning: {lost}")
        with picture_on(sys.stderr, transient=True) as live:
            while (
                self._folder.n_clips < self._n_wanted
                and not self._source.ended
                and not interruption.requested
            ):
                block = self._source.read(_READ_TIMEOUT_S)
                if block is None:
                    self._require_life()
                else:
                    self._sound_s = time.monotonic()
                    for stretch in self._cutter.process(block):
                        self._keep_or_not(stretch)
                self._show(live)

    def _keep_or_not(self, stretch: Stretch) -> None:
        rate = self._source.sample_rate
        # The cutter already holds what came after the end of the stretch.
        end_s = time.time() - self._cutter.pending_s - stretch.n_lost / rate
        if not stretch.flaw:
            if self._folder.n_clips < self._n_wanted:
                self._folder.add(stretch, rate, end_s)
                self._tally.add(stretch)
            return
        duration_s = len(stretch.samples) / rate
        self._folder.leave_out(stretch, rate, end_s)
        self._tally.leave_out(stretch, duration_s)
        lost = f", {stretch.n_lost / rate:.2f} s lost" if stretch.n_lost else ""
        at = time.strftime("%H:%M:%S", time.localtime(end_s - duration_s))
        self._say(f"left out {duration_s:.1f} s from {at}: {stretch.flaw}{lost}")
        if self._tally.useless_s >= _USELESS_S:
            raise AudioDeviceError(
                f"no usable sound in {_USELESS_S / 60:g} min ({stretch.flaw}); see "
                f"'edgeasd listen {self._name}', then run the same command to continue"
            )

    def _require_life(self) -> None:
        if self._source.hung and time.monotonic() - self._sound_s > _HUNG_AFTER_S:
            raise AudioDeviceError(f"{self._source.fault}, then run the same command to continue")

    def _show(self, live: Live | None) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_s < (_LINE_EVERY_S if live is None else _REDRAW_S):
            return
        self._shown_s = now_s
        n_clips = self._folder.n_clips
        level = f", {self._tally.level_dbfs:.1f} dBFS" if self._tally.n_added else ""
        text = f"{n_clips} of {self._n_wanted} clips{level}, {self._tally.left_out}"
        fault = f"; {self._source.fault}" if self._source.fault else ""
        recorded_s = n_clips * CLIP_S + self._cutter.pending_s
        if live is None:
            left_s = max(0.0, self._n_wanted * CLIP_S - recorded_s)
            self._say(f"{text}, {clock_time(left_s)} left{fault}")
        else:
            self._bar.update(self._bar.task_ids[0], completed=recorded_s)
            words = Text(printable(f"{self._name}: {text}{fault}"))
            live.update(Group(words, self._bar), refresh=True)

    def _say(self, text: str) -> None:
        say(f"{self._name}: {text}", err=True)

    def summarise(self, place: Place) -> None:
        """Print what was recorded, what was left out, and where."""
        tally, n_clips = self._tally, self._folder.n_clips
        levels = (
            f", {tally.lowest_dbfs:.1f} to {tally.highest_dbfs:.1f} dBFS, "
            f"{tally.n_clipped} samples clipped"
            if tally.n_added
            else ""
        )
        self._say(
            f"{tally.n_added} clips added{levels}; "
            f"{n_clips} of {self._n_wanted} ({clock_time(n_clips * CLIP_S)}) in {place.folder}"
        )
        if tally.flaws:
            self._say(
                f"{tally.left_out}, {clock_time(tally.left_out_s)} in all; "
                f"the times are in {place.folder / LOG_NAME}"
            )
        if n_clips < self._n_wanted:
            self._say("run the same command to continue")
