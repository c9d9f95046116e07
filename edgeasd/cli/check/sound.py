"""Is every source there, and is its sound fit to be scored?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import numpy as np

from edgeasd.capture.source import AudioSource, open_source
from edgeasd.cli.check.verdict import Finding, Verdict, judge
from edgeasd.common.config import MachineConfig, MicrophoneConfig
from edgeasd.common.errors import AudioDeviceError
from edgeasd.detect.features import lost_band
from edgeasd.detect.levels import LevelMeter
from edgeasd.detect.signal import WORDS
from edgeasd.offline.recordings.recordings import features_for

_MICROPHONE_S = 10.0
"""Long enough for a hub or a sound server that cannot keep up to lose something."""
_OTHER_S = 2.0
_PATIENCE_S = 5.0
"""A sound server that was asleep takes seconds to wake."""
_SETTLED_S = 1.0
"""Before it, what had piled up at the start comes at once."""
_RATE_TOLERANCE = 0.01
"""A wrong rate is off by 8 % (44100 for 48000) or more; clocks drift by 0.01 %; blocks come in
steps of 32 ms and a busy computer is late, which leaves 0.2 % here."""


def check_sounds(machines: Sequence[MachineConfig], *, in_service: bool) -> Iterator[Verdict]:
    """Yield a verdict on the sound of each of *machines*, all heard at once, as by the daemon.

    Args:
        machines: Of the configuration.
        in_service: Whether the daemon runs already, and may have the microphones to itself.
    """
    with ThreadPoolExecutor(len(machines)) as pool:
        yield from pool.map(
            lambda machine: judge(
                f"{machine.name}: sound", partial(_check, machine, in_service=in_service)
            ),
            machines,
        )


def _check(machine: MachineConfig, *, in_service: bool) -> Finding:
    is_microphone = isinstance(machine.source, MicrophoneConfig)
    try:
        source = open_source(machine.source)
    except AudioDeviceError as exc:
        if in_service and is_microphone:
            return Finding(
                f"not checked, as the service runs and may use it ({exc}); "
                "stop the service to check it",
                doubtful=True,
            )
        raise
    with closing(source):
        heard = _Heard(source, lost_band(source.sample_rate, features_for(machine.model)))
        heard.listen(_MICROPHONE_S if is_microphone else _OTHER_S)
    return heard.finding(is_microphone=is_microphone)


class _Heard:
    """What came from a source while it was listened to.

    Args:
        source: The source.
        lost: What its rate cannot hold of what the model listens to, in words.
    """

    def __init__(self, source: AudioSource, lost: str) -> None:
        self._source = source
        self._lost = lost
        self._meter = LevelMeter(source.sample_rate)
        self._states: set[str] = set()
        self._arrivals: list[tuple[float, int]] = []

    def listen(self, duration_s: float) -> None:
        """Listen for seconds of sound.

        Raises:
            AudioDeviceError: If none comes.
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

    def finding(self, *, is_microphone: bool) -> Finding:
        """Return what was heard.

        Raises:
            AudioDeviceError: If a microphone gives no signal.
        """
        levels, rate = self._meter.levels, self._source.sample_rate
        if "flat_signal" in self._states and is_microphone:
            raise AudioDeviceError(WORDS["flat_signal"])
        text = (
            f"{rate} Hz, {levels.rms_dbfs:.1f} dBFS, noise floor {levels.floor_dbfs:.1f} dBFS, "
            f"{self._meter.n_samples / rate:.0f} s"
        )
        doubts = list(self._doubts(is_microphone=is_microphone))
        return Finding("; ".join([text, *doubts]), doubtful=bool(doubts))

    def _doubts(self, *, is_microphone: bool) -> Iterator[str]:
        n_losses = max(self._meter.gaps, self._source.overruns)
        if n_losses:
            yield (
                f"sound was lost {n_losses} times; raise microphone.latency_s, or take load off "
                "this computer and its USB hub"
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
        """Return samples per second of the computer's clock, if there was sound for long enough."""
        began_s = self._arrivals[0][0]
        settled = [one for one in self._arrivals if one[0] - began_s > _SETTLED_S]
        if len(settled) < 2 or settled[-1][0] - settled[0][0] < _MICROPHONE_S / 2:  # noqa: PLR2004
            return None
        times, ends = np.array(settled).T
        return float(np.polyfit(times - times[0], ends, 1)[0])
