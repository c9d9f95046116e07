"""Checks whether every source is there, and whether its sound can be scored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import numpy as np

from edgeasd.capture.source import AudioSource, open_source
from edgeasd.cli.check.report import CheckReport, CheckResult, run_check
from edgeasd.common.config.keys import MachineConfig, MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError
from edgeasd.detect.features import lost_band
from edgeasd.detect.levels import LevelMeter
from edgeasd.detect.signal import WORDS
from edgeasd.offline.recordings.recordings import features_for

_MICROPHONE_S = 10.0
"""Seconds to listen to a microphone: an overloaded hub or sound server loses sound by then."""
_OTHER_S = 2.0
"""Seconds to listen to a file or the simulator."""
_PATIENCE_S = 5.0
"""Seconds to wait for a block: a sound server that was suspended takes a few to resume."""
_SETTLED_S = 1.0
"""Seconds at the start that say nothing of the rate: buffered sound comes all at once."""
_RATE_TOLERANCE = 0.01
"""Relative error of the rate that is accepted.  A wrong rate is off by 8 % (44100 for 48000) or
more; clocks drift by 0.01 %; blocks of 32 ms on a busy computer make the estimate uncertain by
0.2 %."""


def check_sounds(machines: Sequence[MachineConfig], *, in_service: bool) -> Iterator[CheckReport]:
    """Yield a report on the sound of each of *machines*, all heard at once as by the daemon.

    Args:
        machines: Configuration of the machines.
        in_service: Whether the service runs, and so may be using the microphones.
    """
    with ThreadPoolExecutor(len(machines)) as pool:
        yield from pool.map(
            lambda machine: run_check(
                f"{machine.name}: sound", partial(_check, machine, in_service=in_service)
            ),
            machines,
        )


def _check(machine: MachineConfig, *, in_service: bool) -> CheckResult:
    is_microphone = isinstance(machine.source, MicrophoneConfig)
    try:
        source = open_source(machine.source)
    except AudioDeviceError as exc:
        if in_service and is_microphone:
            return CheckResult(
                f"not checked, as the service may be using it ({exc}); "
                "stop the service to check it",
                doubtful=True,
            )
        raise
    with closing(source):
        heard = _Heard(source, lost_band(source.sample_rate, features_for(machine.model)))
        heard.listen(_MICROPHONE_S if is_microphone else _OTHER_S)
    return heard.result(is_microphone=is_microphone)


class _Heard:
    """The sound that a source delivered during the check.

    Args:
        source: Source of the sound.
        lost: Message about the frequencies that the rate of the source cannot hold; may be empty.
    """

    def __init__(self, source: AudioSource, lost: str) -> None:
        self._source = source
        self._lost = lost
        self._meter = LevelMeter(source.sample_rate)
        self._states: set[str] = set()
        self._arrivals: list[tuple[float, int]] = []

    def listen(self, duration_s: float) -> None:
        """Listen for *duration_s* seconds of sound.

        Raises:
            AudioDeviceError: If no sound comes.
        """
        wanted = round(duration_s * self._source.sample_rate)
        while self._meter.n_samples < wanted and not self._source.ended:
            block = self._source.read(_PATIENCE_S)
            if block is None:
                raise AudioDeviceError(
                    f"no sound within {_PATIENCE_S:g} s; "
                    f"{self._source.fault or 'check that the microphone is connected'}"
                )
            self._meter.process(block)
            self._states.add(self._meter.signal.state)
            self._arrivals.append((time.monotonic(), block.first_sample + len(block.samples)))

    def result(self, *, is_microphone: bool) -> CheckResult:
        """Return what was heard, and what is wrong with it.

        Raises:
            AudioDeviceError: If a microphone delivers no signal.
        """
        levels, rate = self._meter.levels, self._source.sample_rate
        if "flat_signal" in self._states and is_microphone:
            raise AudioDeviceError(WORDS["flat_signal"])
        text = (
            f"{rate} Hz, {levels.rms_dbfs:.1f} dBFS, noise floor {levels.floor_dbfs:.1f} dBFS, "
            f"{self._meter.n_samples / rate:.0f} s"
        )
        doubts = list(self._doubts(is_microphone=is_microphone))
        return CheckResult("; ".join([text, *doubts]), doubtful=bool(doubts))

    def _doubts(self, *, is_microphone: bool) -> Iterator[str]:
        n_losses = max(self._meter.gaps, self._source.overruns)
        if n_losses:
            yield (
                f"sound was lost {n_losses} times; raise microphone.latency_s, or reduce the load "
                "on this computer and its USB hub"
            )
        if self._meter.levels.verdict != "good":
            yield self._meter.levels.verdict
        if self._lost:
            yield self._lost
        rate = self._measured_rate() if is_microphone and not n_losses else None
        if rate is not None and abs(rate / self._source.sample_rate - 1.0) > _RATE_TOLERANCE:
            yield (
                f"its clock runs at {rate:.0f} Hz; set microphone.sample_rate to a rate that the "
                "device really has"
            )

    def _measured_rate(self) -> float | None:
        """Return the rate by the computer's clock, hertz; None if there was too little sound."""
        began_s = self._arrivals[0][0]
        settled = [one for one in self._arrivals if one[0] - began_s > _SETTLED_S]
        if len(settled) < 2 or settled[-1][0] - settled[0][0] < _MICROPHONE_S / 2:  # noqa: PLR2004
            return None
        times, ends = np.array(settled).T
        return float(np.polyfit(times - times[0], ends, 1)[0])
