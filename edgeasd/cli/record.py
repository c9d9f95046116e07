"""``edgeasd record``: normal sound of a machine into the folder that a model is learned from."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace

from edgeasd.capture.source import AudioSource, open_source
from edgeasd.cli.terminal import Line, Screen, can_draw
from edgeasd.common.config import MachineConfig, SimulatorConfig, SourceConfig
from edgeasd.common.errors import AudioDeviceError
from edgeasd.common.interruption import Interruption, interruptible
from edgeasd.common.output import say
from edgeasd.common.text import clock_time
from edgeasd.detect.features import FeatureSpec, lost_band
from edgeasd.offline.recordings.cutter import CLIP_S, Cutter, Stretch
from edgeasd.offline.recordings.folder import LOG_NAME, Place, RecordingFolder

_READ_TIMEOUT_S = 0.5
_HUNG_AFTER_S = 10.0
"""As in the daemon: after these seconds without a sample only a restart helps."""
_USELESS_S = 600.0
"""Who is away for two hours learns soon enough that nothing came of it."""
_REDRAW_S = 0.5
_LINE_EVERY_S = 60.0


@dataclass(slots=True)
class _Tally:
    """What became of the sound so far, in this call."""

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
        """How many stretches were left out and why."""
        reasons = ", ".join(f"{flaw} {count}" for flaw, count in self.flaws.items())
        return f"left out {self.flaws.total()} ({reasons})" if reasons else "left out 0"


def record(machine: MachineConfig, place: Place, duration_s: float) -> None:
    """Record until *place* holds clips of *duration_s*, the source ends, or Ctrl-C.

    Clips that *place* holds already count.  Progress and what was left out are told on stderr.

    Raises:
        AudioDeviceError: If the source is not there, hangs, or gives nothing that is fit.
        AudioFileError: If the source is a file that cannot be read.
        StorageError: If the disk is full or cannot be written.
    """
    with closing(open_source(_healthy(machine.source))) as source:
        clips = RecordingFolder(place)
        n_wanted = math.ceil(duration_s / CLIP_S)
        clips.require_space(max(0, n_wanted - clips.n_clips), source.sample_rate)
        with clips, interruptible() as interruption:
            recorder = _Recorder(machine.name, source, clips, n_wanted)
            try:
                recorder.run(interruption)
            finally:
                recorder.summarise(place)


def _healthy(source: SourceConfig) -> SourceConfig:
    """Return *source* without its fault: what is recorded is normal sound."""
    return replace(source, fault_duration_s=0.0) if isinstance(source, SimulatorConfig) else source


class _Recorder:
    """One call of the command."""

    def __init__(
        self, name: str, source: AudioSource, folder: RecordingFolder, n_wanted: int
    ) -> None:
        self._name = name
        self._source = source
        self._folder = folder
        self._n_wanted = n_wanted
        self._cutter = Cutter(source.sample_rate)
        self._tally = _Tally()
        self._screen = Screen(sys.stderr) if can_draw(sys.stderr) else None
        self._told_s = -math.inf
        self._sound_s = time.monotonic()

    def run(self, interruption: Interruption) -> None:
        """Record until the end."""
        lost = lost_band(self._source.sample_rate, FeatureSpec())
        if lost:
            self._say(f"{self._name}: warning: {lost}")
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
            self._show()

    def _keep_or_not(self, stretch: Stretch) -> None:
        rate = self._source.sample_rate
        # What came since it ended is already in the cutter.
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
        self._say(f"{self._name}: left out {duration_s:.1f} s from {at}: {stretch.flaw}{lost}")
        if self._tally.useless_s >= _USELESS_S:
            raise AudioDeviceError(
                f"nothing fit to learn from in {_USELESS_S / 60:g} min ({stretch.flaw}); see "
                f"'edgeasd listen {self._name}', then call again to continue"
            )

    def _require_life(self) -> None:
        if self._source.hung and time.monotonic() - self._sound_s > _HUNG_AFTER_S:
            raise AudioDeviceError(f"{self._source.fault}, then call again to continue")

    def _show(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= (_REDRAW_S if self._screen else _LINE_EVERY_S):
            self._told_s = now_s
            if self._screen:
                self._screen.draw([Line(self._progress())])
            else:
                self._say(self._progress())

    def _progress(self) -> str:
        n_clips = self._folder.n_clips
        left_s = max(0.0, (self._n_wanted - n_clips) * CLIP_S - self._cutter.pending_s)
        level = f", {self._tally.level_dbfs:.1f} dBFS" if self._tally.n_added else ""
        return (
            f"{self._name}: {n_clips} of {self._n_wanted} clips{level}, {self._tally.left_out}, "
            f"{clock_time(left_s)} left" + (f"; {self._source.fault}" * bool(self._source.fault))
        )

    def _say(self, text: str) -> None:
        if self._screen:
            self._screen.say(text)
        else:
            say(text, err=True)

    def summarise(self, place: Place) -> None:
        """Tell what was recorded, what was not, and where."""
        tally, n_clips = self._tally, self._folder.n_clips
        levels = (
            f", {tally.lowest_dbfs:.1f} to {tally.highest_dbfs:.1f} dBFS, "
            f"{tally.n_clipped} samples clipped"
            if tally.n_added
            else ""
        )
        self._say(
            f"{self._name}: {tally.n_added} clips added{levels}; "
            f"{n_clips} of {self._n_wanted} ({clock_time(n_clips * CLIP_S)}) in {place.folder}"
        )
        if tally.flaws:
            self._say(
                f"{self._name}: {tally.left_out}, {clock_time(tally.left_out_s)} in all; "
                f"{place.folder / LOG_NAME} has the times"
            )
        if n_clips < self._n_wanted:
            self._say(f"{self._name}: the same command continues")
