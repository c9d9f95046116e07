"""Level, flat signal and clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeasd.detect.signal import SignalMeter
from edgeasd.stream import AudioBlock, Float32Array
from tests.detect.cutting import BLOCK_LENGTHS, cut_every

RATE = 16_000
SPAN = 4_000


def tone(n_samples: int, amplitude: float) -> Float32Array:
    """Return a tone of 100 Hz."""
    time_s = np.arange(n_samples) / RATE
    return (amplitude * np.sin(2 * np.pi * 100 * time_s)).astype(np.float32)


def metered(samples: Float32Array) -> SignalMeter:
    """Return a meter that has heard *samples*."""
    meter = SignalMeter(RATE)
    meter.process(AudioBlock(samples, 0))
    return meter


def test_signal_level_of_a_tone_is_that_of_its_rms() -> None:
    """A sine of amplitude 0.1 is at -23 dBFS."""
    meter = metered(tone(RATE, 0.1))

    assert meter.level_dbfs == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=1e-3)
    assert meter.state == "ok"


def test_signal_of_silence_is_flat_after_two_seconds() -> None:
    """Digital silence is told after two seconds, and no longer once there is sound again."""
    meter = SignalMeter(RATE)
    states = []

    for samples, first_sample in (
        (np.zeros(2 * RATE - 1, np.float32), 0),
        (np.zeros(1, np.float32), 2 * RATE - 1),
        (tone(RATE, 0.1), 2 * RATE),
    ):
        meter.process(AudioBlock(samples, first_sample))
        states.append(meter.state)

    assert states == ["ok", "flat_signal", "ok"]
    assert meter.last_flat_sample == 2 * RATE
    assert metered(np.zeros(RATE, np.float32)).level_dbfs == -math.inf


def test_signal_of_a_dead_converter_is_flat() -> None:
    """A constant, or one that toggles by one step of 16 bits, is no signal; two steps are one."""
    steps = np.tile(np.array([3, 4], np.float32), RATE + SPAN) / np.float32(32_768)

    assert metered(np.full(3 * RATE, 0.25, np.float32)).state == "flat_signal"
    assert metered(steps).state == "flat_signal"
    assert metered(np.float32(2) * steps).state == "ok"


def test_signal_clipped_for_more_than_a_hundredth_is_told() -> None:
    """A tone driven into full scale is clipped; a single peak is not."""
    driven = np.clip(tone(RATE, 2.0), -1.0, 32_767 / 32_768)
    single = tone(RATE, 0.1)
    single[5000] = 1.0

    assert metered(driven.astype(np.float32)).state == "clipping"
    assert metered(single).state == "ok"


@pytest.mark.parametrize("size", BLOCK_LENGTHS)
def test_signal_does_not_depend_on_the_cut(size: int) -> None:
    """Level, state and the latest flat position are the same for every block size."""
    samples = np.concatenate((tone(RATE, 0.2), np.zeros(RATE + 77, np.float32), tone(SPAN, 0.1)))
    whole, cut = metered(samples), SignalMeter(RATE)

    for block in cut_every(samples, size):
        cut.process(block)

    for name in ("level_dbfs", "state", "last_flat_sample"):
        assert getattr(cut, name) == getattr(whole, name)


def test_signal_reset_is_like_new() -> None:
    """After `reset` nothing of the stream before is left."""
    meter = metered(np.zeros(3 * RATE, np.float32))

    meter.reset()
    meter.process(AudioBlock(tone(RATE, 0.1), 0))

    assert vars(meter).keys() == vars(metered(tone(RATE, 0.1))).keys()
    assert meter.state == "ok"
    assert meter.level_dbfs == metered(tone(RATE, 0.1)).level_dbfs
    assert meter.last_flat_sample == 0


def noise(n_samples: int, rms: float) -> Float32Array:
    """Return noise as a 16-bit converter gives it."""
    sound = np.random.default_rng(4).normal(0.0, rms, n_samples)
    return (np.round(sound * 32_768) / 32_768).astype(np.float32)


def test_signal_hardly_above_the_steps_for_ten_seconds_is_too_quiet() -> None:
    """Sound below -80 dBFS is told after ten seconds, and no longer once it is louder."""
    meter = SignalMeter(RATE)
    states = []

    for samples, first_sample in (
        (noise(10 * RATE - 1, 8e-5), 0),
        (noise(1, 8e-5), 10 * RATE - 1),
        (noise(RATE, 3e-4), 10 * RATE),
    ):
        meter.process(AudioBlock(samples, first_sample))
        states.append(meter.state)

    assert states == ["ok", "too_quiet", "ok"]
    assert meter.last_flat_sample == 0


def test_signal_on_a_constant_is_as_quiet_as_without() -> None:
    """A constant that the converter adds makes no sound of it."""
    samples = noise(11 * RATE, 8e-5) + np.float32(0.01)

    assert metered(samples).state == "too_quiet"
    assert metered(samples).level_dbfs > -41


def test_signal_with_a_knock_now_and_then_is_not_too_quiet() -> None:
    """A machine that is heard every eight seconds is heard."""
    samples = noise(40 * RATE, 8e-5)
    samples[:: 8 * RATE] = 0.1

    assert metered(samples).state == "ok"
