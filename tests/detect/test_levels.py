"""Levels hold to their definitions, however the sound is cut, and say what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.detect.levels import LevelMeter, Levels
from edgeasd.detect.signal import SignalState
from edgeasd.service.machine.health import Facts, judge

RATE = 16_000


def metered(samples: Float32Array, block: int = 1_000, rate: int = RATE) -> LevelMeter:
    """A meter that heard *samples*."""
    meter = LevelMeter(rate)
    for start in range(0, len(samples), block):
        meter.process(AudioBlock(samples[start : start + block], start))
    return meter


def tone(amplitude: float, duration_s: float = 1.0) -> Float32Array:
    """A tone with whole periods in every span."""
    times = np.arange(round(duration_s * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)


def test_levels_of_a_tone_are_those_of_theory() -> None:
    """A sine's root mean square is 3.01 dB below its peak, and a constant part counts for none."""
    levels = metered(tone(0.1) + np.float32(0.05)).levels

    assert levels.rms_dbfs == pytest.approx(-20 - 3.0103, abs=1e-3)
    assert levels.peak_dbfs == pytest.approx(20 * math.log10(0.15), abs=1e-3)
    assert (levels.n_samples, levels.n_clipped) == (RATE, 0)


def test_noise_floor_is_the_level_between_the_strokes() -> None:
    """Of a press that strikes half of the time, the noise floor is the level of the other half."""
    sound = np.concatenate([tone(0.5), tone(0.01)] * 5)

    levels = metered(sound).levels

    assert levels.floor_dbfs == pytest.approx(-43.01, abs=0.01)
    assert levels.rms_dbfs == pytest.approx(-12.04, abs=0.01)


@pytest.mark.parametrize("block", [1, 17, 512, 2_000, 16_001])
def test_levels_do_not_depend_on_block_size(block: int, rng: np.random.Generator) -> None:
    """The same samples give the same levels, however they were cut."""
    samples = rng.normal(0, 0.1, 3 * RATE + 1).astype(np.float32)
    samples[5_000:40_000] = 0.0
    samples[41_000:42_000] = 1.0

    assert metered(samples, block).levels == metered(samples, len(samples)).levels


def test_meter_remembers_a_minute() -> None:
    """Noise from before the microphone was moved is forgotten after a minute."""
    meter = metered(np.concatenate([tone(1.0), tone(0.01, 60.0)]))

    assert meter.levels.peak_dbfs == pytest.approx(-40, abs=0.01)
    assert meter.n_samples == 61 * RATE


def test_peak_hold_lasts_two_seconds() -> None:
    """A peak can be read for two seconds, while the level is that of now."""
    meter = metered(np.concatenate([tone(0.5), tone(0.01, 1.5)]))
    assert meter.hold_dbfs == pytest.approx(-6.02, abs=0.01)
    assert meter.now.peak_dbfs == pytest.approx(-40, abs=0.01)

    meter.process(AudioBlock(tone(0.01, 1.0), round(2.5 * RATE)))

    assert meter.hold_dbfs == pytest.approx(-40, abs=0.01)


def test_meter_counts_gaps() -> None:
    """A jump of the position is a gap, the first block none."""
    meter = LevelMeter(RATE)

    for first in (500, 1_500, 9_000):
        meter.process(AudioBlock(tone(0.1)[:1_000], first))

    assert meter.gaps == 1


def test_levels_of_nothing_are_none() -> None:
    """Before there was a span, there is no level."""
    assert metered(np.empty(0, np.float32)).levels == Levels(-math.inf, -math.inf, -math.inf, 0, 0)


@pytest.mark.parametrize(
    ("amplitude", "verdict"),
    [
        (0.0, "flat_signal"),
        (1e-5, "flat_signal"),
        (1e-3, "quiet"),
        (0.1, "good"),
        (0.9, "good"),
        (1.5, "clipping"),
    ],
)
def test_verdict_says_what_to_do(amplitude: float, verdict: str) -> None:
    """From dead to clipped, each level has its verdict, each bad one its remedy."""
    said = metered(np.clip(tone(amplitude), -1, 1)).levels.verdict

    assert said.partition(":")[0] == verdict
    assert (":" in said) == (verdict != "good")


@pytest.mark.parametrize("state", ["flat_signal", "too_quiet", "clipping"])
def test_verdict_on_a_defect_is_in_the_words_of_the_daemon(state: SignalState) -> None:
    """What a state message says of the sound, listen, check and the meter say too."""
    assert state != "ok"
    facts = Facts("", False, 0.0, 0.0, 0.0, state, alarm=False, scored=True)

    levels = Levels(-30.0, -20.0, -40.0, RATE, 0, state)

    assert levels.verdict == f"{state}: {judge(facts)[1]}"


def test_verdict_on_strokes_that_clip_lasts_a_minute() -> None:
    """Who listens for a minute hears of the one stroke in it; after it, the place is good."""
    meter = metered(np.concatenate([np.clip(tone(2.0), -1, 1), tone(0.1, 50.0)]))
    assert meter.levels.verdict.startswith("clipping: ")

    for start in range(51, 62):
        meter.process(AudioBlock(tone(0.1), start * RATE))

    assert meter.levels.verdict == "good"


def test_verdict_on_sound_that_begins_flat_is_of_what_is_heard_now() -> None:
    """A microphone that was plugged in while the meter ran is well."""
    sound = np.concatenate([np.zeros(3 * RATE, np.float32), tone(0.1, 3.0)])

    assert metered(sound[: 4 * RATE]).levels.verdict.startswith("flat_signal: ")
    assert metered(sound).levels.verdict == "good"


def test_verdict_of_a_single_clipped_sample_is_good() -> None:
    """One clipped sample in a minute is no distortion."""
    sound = tone(0.1, 10.0)
    sound[100] = 1.0

    levels = metered(sound).levels

    assert (levels.n_clipped, levels.verdict) == (1, "good")
