"""A live level meter, by which a microphone is placed."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from edgeasd.capture.microphone.devices import find_device, stable_name
from edgeasd.capture.microphone.portaudio import list_devices
from edgeasd.capture.source import AudioSource, open_source
from edgeasd.cli.terminal import line, picture_on
from edgeasd.common.config.keys import MicrophoneConfig, SourceConfig
from edgeasd.common.errors import AudioDeviceError
from edgeasd.common.interruption import interruptible
from edgeasd.common.output import say, say_json
from edgeasd.common.text import printable
from edgeasd.detect.features import FeatureSpec, lost_band
from edgeasd.detect.levels import LevelMeter, Levels

_REFRESH_S = 0.125
"""Seconds between two pictures on a terminal."""
_LINE_S = 1.0
"""Seconds between two lines where there is no terminal."""
_START_PATIENCE_S = 5.0
"""Seconds that a device may take to start."""
_FIRST_SOUND_S = 2.0 * _START_PATIENCE_S
"""Seconds after which a source that has not delivered any sound is at fault."""
_LOW_DBFS = -80.0
"""Level at the left end of a bar; the right end is full scale."""
_LABEL_WIDTH, _LEVELS_WIDTH = 10, 25
"""Columns of a meter on the left and on the right of the bar."""
_SHORTEST_BAR, _LONGEST_BAR = 4, 40
"""Columns of a bar on narrow and on wide terminals."""
_MARKED_BAR = 20
"""Columns of a bar that has room for marks in between."""
_COLOURS = {"good": "green", "quiet": "yellow", "too_quiet": "yellow"}


@dataclass(slots=True)
class Channel:
    """A channel that is listened to, and what was heard on it.

    Attributes:
        number: Number of the channel, counted from 0.
        source: Source of the sound.
        features: Features of the model that will score the sound.
        meter: Levels of the sound so far.
    """

    number: int
    source: AudioSource
    features: FeatureSpec = field(default_factory=FeatureSpec)
    meter: LevelMeter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = LevelMeter(self.source.sample_rate)

    @property
    def verdict(self) -> str:
        """``good``, or what is wrong with the sound and what to do about it."""
        lost = lost_band(self.source.sample_rate, self.features)
        verdict = self.meter.levels.verdict
        if verdict == "good":
            return lost or verdict
        return "; ".join(filter(None, (verdict, lost)))


def channels_of(device: str, wanted: Sequence[int]) -> list[MicrophoneConfig]:
    """Return a configuration for each *wanted* channel of *device*, or for its first two.

    Raises:
        AudioDeviceError: If there is no such device.
    """
    found = find_device(device, list_devices())
    # A sound server offers any number of channels; a microphone usually has one or two.
    numbers = wanted or range(min(found.n_channels, 2))
    return [MicrophoneConfig(device=device, channel=number) for number in numbers]


def describe_devices() -> Iterator[dict[str, Any]]:
    """Yield the microphones of this computer, each with its level or why it cannot be measured."""
    found = list_devices()
    for device in found:
        level: dict[str, Any]
        try:
            level = {"level_dbfs": measure_level(device.full_name, 1.0)}
        except AudioDeviceError as exc:
            level = {"error": str(exc)}
        yield {"device": stable_name(device, found), **asdict(device), **level}


def measure_level(device: str, duration_s: float) -> float | None:
    """Listen to a microphone and return its level.

    Args:
        device: Name of the device, as ``microphone.device`` in the configuration.
        duration_s: Seconds of sound to listen for.

    Returns:
        Root mean square as in `Levels`, dB re full scale; None if there was no sound, or only
        digital silence.

    Raises:
        AudioDeviceError: If the microphone cannot be opened.
    """
    with closing(open_source(MicrophoneConfig(device=device))) as source:
        meter = LevelMeter(source.sample_rate)
        n_wanted = duration_s * source.sample_rate
        while meter.n_samples < n_wanted and (block := source.read(_START_PATIENCE_S)) is not None:
            meter.process(block)
    level_dbfs = meter.levels.rms_dbfs
    return level_dbfs if math.isfinite(level_dbfs) else None


def show_levels(
    sources: Sequence[SourceConfig], duration_s: float, features: FeatureSpec | None = None
) -> None:
    """Show the levels of *sources* until Ctrl-C or the end of *duration_s*, then a verdict on each.

    On a terminal the levels are drawn.  Else they are JSON lines, one a second and source, of which
    the last has the verdict.

    Args:
        sources: Configuration of each source.
        duration_s: Seconds to listen for.
        features: Features of the model that will score the sound; the verdict says what the rate
            of a source cannot hold of them.

    Raises:
        EdgeasdError: If a source cannot be opened, or delivers no sound at all.
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
    began_s = shown_s = time.monotonic()
    with interruptible() as interruption, picture_on(sys.stdout) as live:
        interval_s = _LINE_S if live is None else _REFRESH_S
        while not interruption.requested and not all(each.source.ended for each in channels):
            now_s = time.monotonic()
            if now_s - began_s >= duration_s:
                break
            _take_in(channels)
            _require_sound(channels, now_s - began_s)
            if now_s - shown_s >= interval_s:
                shown_s = now_s
                _show_now(channels, live)
    _conclude(channels, drawn=live is not None)


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


def _show_now(channels: Sequence[Channel], live: Live | None) -> None:
    if live is not None:
        live.update(Group(*meters(channels, live.console.width)), refresh=True)
        return
    for channel in channels:
        say_json(_row(channel, channel.meter.levels))
    sys.stdout.flush()


def _conclude(channels: Sequence[Channel], *, drawn: bool) -> None:
    for channel in channels:
        if drawn:
            say(f"channel {channel.number}: {channel.verdict}")
        else:
            say_json({**_row(channel, channel.meter.levels), "verdict": channel.verdict})


def meters(channels: Sequence[Channel], width: int) -> Iterator[Text]:
    """Yield a scale, and for each of *channels* its levels and the verdict so far.

    Args:
        channels: The channels.
        width: Columns of the terminal.
    """
    n_bar = min(_LONGEST_BAR, max(_SHORTEST_BAR, width - _LABEL_WIDTH - 2 - _LEVELS_WIDTH))
    marks = (-80, -60, -40, -20) if n_bar >= _MARKED_BAR else (-80,)
    scale = "".join(f"{mark:<{n_bar // len(marks)}d}" for mark in marks)
    yield line(f"{'':{_LABEL_WIDTH}}{scale:<{n_bar}}0 dBFS   Ctrl-C ends")
    for channel in channels:
        now, levels = channel.meter.now, channel.meter.levels
        colour = _COLOURS.get(levels.verdict.partition(":")[0], "red")
        label = f"channel {channel.number}"
        yield line(
            f"{label:<{_LABEL_WIDTH}}|{_bar(now, channel.meter.hold_dbfs, n_bar)}|"
            f" rms {now.rms_dbfs:6.1f}  peak {now.peak_dbfs:6.1f}",
            colour,
        )
        # A verdict has its remedy at the end: it is wrapped rather than cut.
        yield Text(
            printable(
                f"noise floor {levels.floor_dbfs:.1f}  clipped {levels.n_clipped}  "
                f"gaps {channel.meter.gaps}  {channel.source.sample_rate} Hz  "
                f"{channel.source.fault or channel.verdict}"
            )
        )


def _bar(now: Levels, hold_dbfs: float, n_columns: int) -> str:
    """Return RMS as ``#``, from there to the peak ``-``, and the peak hold as ``|``."""
    n_rms, n_peak, n_hold = (
        _n_filled(level, n_columns) for level in (now.rms_dbfs, now.peak_dbfs, hold_dbfs)
    )
    drawn = ("#" * n_rms + "-" * (n_peak - n_rms)).ljust(n_columns)
    return drawn[: n_hold - 1] + "|" + drawn[n_hold:] if n_hold else drawn


def _n_filled(level_dbfs: float, n_columns: int) -> int:
    """Return how many of the columns of a bar a level fills."""
    share = 1.0 - level_dbfs / _LOW_DBFS if math.isfinite(level_dbfs) else 0.0
    return round(n_columns * min(1.0, max(0.0, share)))


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
