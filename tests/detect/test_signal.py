"""Level, flat signal and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.detect.signal import SignalMeter, defect_notes, find_defect, without_flat
from tests.detect.cutting import BLOCK_LENGTHS, cut_at, cut_every, cuts

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


def states_after(*pieces: Float32Array) -> list[str]:
    """Return the state of a meter after each of *pieces* that follow each other."""
    meter = SignalMeter(RATE)
    states: list[str] = []
    position = 0
    for samples in pieces:
        meter.process(AudioBlock(samples, position))
        position += len(samples)
        states.append(meter.state)
    return states


def test_signal_level_of_a_tone_is_that_of_its_rms() -> None:
    """A sine of amplitude 0.1 is at -23 dBFS."""
    meter = metered(tone(RATE, 0.1))

    assert meter.level_dbfs == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=1e-3)
    assert meter.state == "ok"


def test_signal_of_silence_is_flat_after_two_seconds() -> None:
    """Digital silence is told after two seconds, and no longer once there was sound for two."""
    states = states_after(
        np.zeros(2 * RATE - 1, np.float32),
        np.zeros(1, np.float32),
        tone(2 * RATE - 1, 0.1),
        tone(1, 0.1),
    )

    assert states == ["ok", "flat_signal", "flat_signal", "ok"]
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
    """Level, state, defects and what was counted are the same for every block size."""
    samples = np.concatenate(
        (
            tone(RATE, 0.2),
            np.zeros(RATE + 77, np.float32),
            np.ones(SPAN, np.float32),
            noise(11 * RATE, 8e-5),
            tone(SPAN, 0.1),
        )
    )
    whole, cut = metered(samples), SignalMeter(RATE)

    for block in cut_every(samples, size):
        cut.process(block)

    assert facts(cut) == facts(whole)


def facts(meter: SignalMeter) -> dict[str, object]:
    """Return all that a meter says."""
    since = [meter.defect_since(position) for position in range(0, 16 * RATE, SPAN // 2)]
    names = ("level_dbfs", "state", "n_judged", "n_defective")
    return {"since": since, **{name: getattr(meter, name) for name in names}}


def test_signal_reset_is_like_new() -> None:
    """After `reset` nothing of the stream before is left."""
    meter = metered(np.zeros(3 * RATE, np.float32))

    meter.reset()
    meter.process(AudioBlock(tone(RATE, 0.1), 0))

    assert facts(meter) == facts(metered(tone(RATE, 0.1)))


def noise(n_samples: int, rms: float) -> Float32Array:
    """Return noise as a 16-bit converter gives it."""
    sound = np.random.default_rng(4).normal(0.0, rms, n_samples)
    return (np.round(sound * 32_768) / 32_768).astype(np.float32)


def test_signal_hardly_above_the_steps_for_ten_seconds_is_too_quiet() -> None:
    """Sound below -80 dBFS is told after ten seconds, and until it was louder for ten."""
    states = states_after(
        noise(10 * RATE - 1, 8e-5),
        noise(1, 8e-5),
        noise(10 * RATE - 1, 3e-4),
        noise(1, 3e-4),
    )

    assert states == ["ok", "too_quiet", "too_quiet", "ok"]


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


def test_signal_of_a_converter_that_hears_itself_is_flat() -> None:
    """A muted input rounds what is left of it to zeros and single steps."""
    muted = np.concatenate((noise(3 * RATE, 0.8 / 32_768), tone(RATE, 0.1)))

    assert metered(muted[: 3 * RATE]).state == "flat_signal"
    assert metered(noise(3 * RATE, 2 / 32_768)).state == "ok"
    assert find_defect(muted, RATE) == "flat_signal"


def test_signal_that_clips_at_each_stroke_is_one_state() -> None:
    """A press whose stroke clips for 60 ms every three seconds changes its state once a minute."""
    sound = tone(60 * RATE, 0.1)
    for start in range(RATE // 2, 60 * RATE, 3 * RATE):
        sound[start : start + 960] = 1.0

    states = states_after(*np.split(sound, 240))

    changes = [one for before, one in pairwise(states) if one != before]
    assert changes == ["clipping"]
    assert states_after(sound, tone(10 * RATE, 0.1)) == ["clipping", "ok"]


def test_signal_defect_is_of_the_sound_asked_for() -> None:
    """What was wrong before, or comes after what was heard so far, is nothing to a score."""
    meter = metered(np.concatenate((np.zeros(SPAN, np.float32), tone(3 * SPAN, 0.1))))

    assert meter.defect_since(0) == "flat_signal"
    assert meter.defect_since(SPAN - 1) == "flat_signal"
    assert meter.defect_since(SPAN) == "ok"


@pytest.mark.parametrize("gap", [1, 10**6])
def test_signal_counts_spans_from_a_gap(gap: int) -> None:
    """A span that a gap cuts short does not count; what was told before it holds for its time."""
    meter = metered(np.zeros(3 * RATE + 100, np.float32))
    start = 3 * RATE + 100 + gap

    meter.process(AudioBlock(tone(SPAN, 0.1), start))

    assert meter.defect_since(start) == "ok"
    assert meter.n_defective["flat_signal"] == 3 * RATE
    assert meter.state == ("flat_signal" if gap == 1 else "ok")


def test_signal_flat_between_gaps_is_told() -> None:
    """A source that loses sound each second and gives nothing else is as dead as any."""
    meter = SignalMeter(RATE)

    for second in range(4):
        meter.process(AudioBlock(np.zeros(RATE, np.float32), second * (RATE + 50)))

    assert meter.state == "flat_signal"


def joined(blocks: Iterable[AudioBlock]) -> list[AudioBlock]:
    """Return a block for each stretch of *blocks* without a gap."""
    stretches: list[AudioBlock] = []
    for block in blocks:
        last = stretches[-1] if stretches else None
        if last is not None and block.first_sample == last.first_sample + len(last.samples):
            samples = np.concatenate((last.samples, block.samples))
            stretches[-1] = AudioBlock(samples, last.first_sample)
        elif len(block.samples):
            stretches.append(block)
    return stretches


@given(cuts(10 * SPAN), st.integers(0, 10**6))
def test_without_flat_leaves_out_flat_spans_however_it_is_cut(
    places: list[int], start: int
) -> None:
    """What is left keeps its place; at a gap the spans are counted anew."""
    sound = np.concatenate((tone(SPAN, 0.1), np.zeros(2 * SPAN + 5, np.float32)))
    blocks = cut_at(np.tile(sound, 4)[: 10 * SPAN], places, start)
    blocks += cut_at(sound, [], start + 10**7)

    whole, cut = (
        joined(without_flat(those, SignalMeter(RATE))) for those in (joined(blocks), blocks)
    )

    assert [(each.first_sample, each.samples.tolist()) for each in cut] == [
        (each.first_sample, each.samples.tolist()) for each in whole
    ]
    assert all(find_defect(each.samples, RATE) == "ok" for each in cut)
    assert cut[-1].first_sample == start + 10**7 + 3 * SPAN
    assert sum(len(each.samples) for each in cut) < 8 * SPAN


def test_defect_notes_say_what_became_of_the_sound() -> None:
    """Flat sound is left out, of other defects there is a warning, and of good sound nothing."""
    assert defect_notes({"flat_signal": 0.0, "too_quiet": 0.0, "clipping": 0.0}) == []
    assert defect_notes({"flat_signal": 11.25, "clipping": 2.0}) == [
        "12 s of flat sound left out; is the microphone connected?",
        "warning: for 2 s the sound is clipped; turn down the gain of the microphone",
    ]
