"""``edgeasd listen``: a live level meter, to place a microphone by."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from edgeasd.capture.microphone.devices import find_device
from edgeasd.capture.microphone.portaudio import list_devices
from edgeasd.capture.source import AudioSource, open_source
from edgeasd.cli.terminal import Line, Screen, bar, can_draw
from edgeasd.common.config import MicrophoneConfig, SourceConfig
from edgeasd.common.errors import AudioDeviceError
from edgeasd.common.interruption import interruptible
from edgeasd.common.output import say, say_json
from edgeasd.detect.features import FeatureSpec, lost_band
from edgeasd.detect.levels import LevelMeter, Levels

_REFRESH_S = 0.125
_LINE_S = 1.0
_START_PATIENCE_S = 5.0
"""What a device may take to start."""
_FIRST_SOUND_S = 2.0 * _START_PATIENCE_S
"""After so long without sound there is a fault."""
_LOW_DBFS, _HIGH_DBFS = -80.0, 0.0
_BAR_WIDTH = 40
_COLOURS = {"good": "green", "quiet": "yellow", "too_quiet": "yellow"}


@dataclass(slots=True)
class Channel:
    """A channel that is listened to, and what was heard of it.

    Attributes:
        number: Counted from 0.
        source: Source of its sound.
        features: Features of the model that is to listen to it.
        meter: What was heard.
    """

    number: int
    source: AudioSource
    features: FeatureSpec = field(default_factory=FeatureSpec)
    meter: LevelMeter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = LevelMeter(self.source.sample_rate)

    @property
    def verdict(self) -> str:
        """What to do, in words: ``good``, or what is wrong and how to mend it."""
        lost = lost_band(self.source.sample_rate, self.features)
        verdict = self.meter.levels.verdict
        if verdict == "good":
            return lost or verdict
        return "; ".join(filter(None, (verdict, lost)))


def channels_of(device: str, wanted: Sequence[int]) -> list[MicrophoneConfig]:
    """Return a configuration for each *wanted* channel of *device*, for each it has if none is.

    Raises:
        AudioDeviceError: If there is no such device.
    """
    found = find_device(device, list_devices())
    # A sound server offers as many channels as there are numbers for; two are a usual microphone.
    numbers = wanted or range(min(found.n_channels, 2))
    return [MicrophoneConfig(device=device, channel=number) for number in numbers]


def measure_level(device: str, duration_s: float) -> float | None:
    """Listen to a microphone and return its level.

    Args:
        device: As ``microphone.device`` of the configuration.
        duration_s: Seconds of sound to listen for.

    Returns:
        Root mean square as of `Levels`, dB re full scale; None if the microphone gave no sound, or
        one value only.

    Raises:
        AudioDeviceError: If it cannot be opened.
    """
    with closing(open_source(MicrophoneConfig(device=device))) as source:
        meter = LevelMeter(source.sample_rate)
        n_wanted = duration_s * source.sample_rate
        while meter.n_samples < n_wanted and (block := source.read(_START_PATIENCE_S)) is not None:
            meter.process(block)
    level_dbfs = meter.levels.rms_dbfs
    return level_dbfs if math.isfinite(level_dbfs) else None


def listen(
    sources: Sequence[SourceConfig], duration_s: float, features: FeatureSpec | None = None
) -> None:
    """Show the levels of *sources* until Ctrl-C or the end of *duration_s*, then a verdict on each.

    The verdict tells too what their rate cannot hold of what a model with *features* listens to.

    On a terminal as a picture; else as JSON lines, one a second and source, the last with the
    verdict.

    Raises:
        EdgeasdError: If a source cannot be opened, or gives no sound at all.
    """
    with ExitStack() as stack:
        channels = [
            Channel(
                getattr(config, "channel", 0),
                stack.enter_context(closing(open_source(config))),
                features or FeatureSpec(),
            )
            for config in sources
        ]
        _show(channels, duration_s)


def _show(channels: Sequence[Channel], duration_s: float) -> None:
    screen = Screen(sys.stdout) if can_draw(sys.stdout) else None
    began_s = shown_s = time.monotonic()
    interval_s = _LINE_S if screen is None else _REFRESH_S
    with interruptible() as interruption:
        while not interruption.requested and not all(each.source.ended for each in channels):
            now_s = time.monotonic()
            if now_s - began_s >= duration_s:
                break
            _take_in(channels)
            _require_sound(channels, now_s - began_s)
            if now_s - shown_s >= interval_s:
                shown_s = now_s
                _tell(channels, screen)
    _conclude(channels, screen)


def _take_in(channels: Sequence[Channel]) -> None:
    for channel in channels:
        block = channel.source.read(_REFRESH_S)
        if block is not None:
            channel.meter.process(block)


def _require_sound(channels: Sequence[Channel], elapsed_s: float) -> None:
    for channel in channels:
        if channel.meter.n_samples == 0 and elapsed_s > _FIRST_SOUND_S:
            raise AudioDeviceError(
                f"no sound within {_FIRST_SOUND_S:g} s: "
                f"{channel.source.fault or 'check that the microphone is connected'}"
            )


def _tell(channels: Sequence[Channel], screen: Screen | None) -> None:
    if screen is not None:
        screen.draw(picture(channels))
        return
    for channel in channels:
        say_json(_row(channel, channel.meter.levels))
    sys.stdout.flush()


def _conclude(channels: Sequence[Channel], screen: Screen | None) -> None:
    for channel in channels:
        levels = channel.meter.levels
        if screen is None:
            say_json({**_row(channel, levels), "verdict": channel.verdict})
        else:
            say(f"channel {channel.number}: {channel.verdict}")


def picture(channels: Sequence[Channel]) -> list[Line]:
    """Return the meters of *channels*, two lines each."""
    scale = "".join(f"{level:<10d}" for level in range(-80, 0, 20))
    lines = [Line(f"          {scale:<{_BAR_WIDTH}}0 dBFS   Ctrl-C ends")]
    for channel in channels:
        now, levels = channel.meter.now, channel.meter.levels
        verdict = channel.verdict
        colour = _COLOURS.get(levels.verdict.partition(":")[0], "red")
        lines.append(
            Line(
                f"channel {channel.number:<2d}|{_bars(now, channel.meter.hold_dbfs)}|"
                f" rms {now.rms_dbfs:6.1f}  peak {now.peak_dbfs:6.1f}",
                colour,
            )
        )
        lines.append(
            Line(
                f"          noise floor {levels.floor_dbfs:.1f}  clipped {levels.n_clipped}  "
                f"gaps {channel.meter.gaps}  {channel.source.sample_rate} Hz  "
                f"{channel.source.fault or verdict}"
            )
        )
    return lines


def _bars(now: Levels, hold_dbfs: float) -> str:
    """Return RMS as ``#``, from there to the peak ``-``, and the peak hold as ``|``."""
    rms, peak, hold = (
        bar(level, _LOW_DBFS, _HIGH_DBFS, _BAR_WIDTH).rstrip()
        for level in (now.rms_dbfs, now.peak_dbfs, hold_dbfs)
    )
    drawn = (rms + "-" * (len(peak) - len(rms))).ljust(_BAR_WIDTH)
    return drawn[: len(hold) - 1] + "|" + drawn[len(hold) :] if hold else drawn


def _row(channel: Channel, levels: Levels) -> dict[str, object]:
    numbers = {
        "rms_dbfs": levels.rms_dbfs,
        "peak_dbfs": levels.peak_dbfs,
        "floor_dbfs": levels.floor_dbfs,
    }
    return {
        "channel": channel.number,
        "sample_rate": channel.source.sample_rate,
        # JSON has no infinity: null is digital silence.
        **{key: round(x, 2) if math.isfinite(x) else None for key, x in numbers.items()},
        "clipped": levels.n_clipped,
        "gaps": channel.meter.gaps,
        "fault": channel.source.fault,
    }
