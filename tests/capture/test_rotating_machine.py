"""The simulated machine sounds as the physics behind it says."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from edgeasd.capture.simulator import rotating_machine
from edgeasd.capture.simulator.rotating_machine import (
    SAMPLE_RATE,
    SECTIONS,
    MachineDesign,
    RotatingMachine,
    render_clip,
)

ALL_SECTIONS = range(len(SECTIONS))


def level_db(samples: npt.NDArray[np.float32]) -> float:
    """Return the power of *samples* in dB re full scale."""
    return 10.0 * math.log10(float(np.mean(samples.astype(np.float64) ** 2)))


def band_level_db(samples: npt.NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    """Return the power of *samples* between two frequencies, in dB re an arbitrary level."""
    frequencies, power = signal.welch(samples, SAMPLE_RATE, nperseg=8192)
    inside = (frequencies >= low_hz) & (frequencies <= high_hz)
    return 10.0 * math.log10(float(np.sum(power[inside])))


@given(
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    faulty=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_machine_cut_anyhow_gives_the_same_sound(cuts: list[int], *, faulty: bool) -> None:
    """The sound does not depend on the sizes in which it is asked for, bit for bit."""
    whole = RotatingMachine(3).process(sum(cuts), faulty=faulty)

    machine = RotatingMachine(3)
    pieces = [machine.process(n_samples, faulty=faulty) for n_samples in cuts]

    assert np.array_equal(np.concatenate([np.empty(0, np.float32), *pieces]), whole)


def test_machine_fault_switched_changes_only_the_faulty_samples() -> None:
    """A fault is heard from its first sample to its last and leaves no trace after."""
    healthy = render_clip(1, 1.0)
    worn = render_clip(1, 1.0, faulty=True)

    machine = RotatingMachine(1)
    before = machine.process(5001, faulty=False)
    during = machine.process(4999, faulty=True)
    after = machine.process(6000, faulty=False)

    assert np.array_equal(before, healthy[:5001])
    assert np.array_equal(during, worn[5001:10_000])
    assert np.array_equal(after, healthy[10_000:])


def test_machine_no_samples_gives_an_empty_array() -> None:
    """Asking for nothing gives nothing, of the right type."""
    samples = RotatingMachine(1).process(0, faulty=False)

    assert samples.shape == (0,)
    assert samples.dtype == np.float32


@pytest.mark.parametrize("section", ALL_SECTIONS)
@pytest.mark.parametrize("faulty", [False, True])
def test_machine_any_section_stays_inside_full_scale(section: int, *, faulty: bool) -> None:
    """Peaks stay 3 dB below full scale, and every value is one of 16-bit sound."""
    for seed in range(4):
        samples = render_clip(seed, 10.0, section, faulty=faulty)

        assert np.max(np.abs(samples)) < 0.7
        assert np.array_equal(samples * 32_768.0, np.rint(samples * 32_768.0))


@pytest.mark.parametrize("section", ALL_SECTIONS)
def test_machine_faulty_is_little_louder_but_plain_in_the_resonances(section: int) -> None:
    """The fault adds less than 2.5 dB to the whole and more than 13 dB at its resonances."""
    for seed in range(3):
        healthy = render_clip(seed, 10.0, section)
        worn = render_clip(seed, 10.0, section, faulty=True)

        assert 1.0 < level_db(worn) - level_db(healthy) < 2.5
        for resonance_hz in SECTIONS[section].structure_hz:
            low_hz, high_hz = 0.95 * resonance_hz, 1.05 * resonance_hz
            rise_db = band_level_db(worn, low_hz, high_hz) - band_level_db(healthy, low_hz, high_hz)
            assert rise_db > 13.0


@pytest.mark.parametrize("section", ALL_SECTIONS)
def test_machine_faulty_envelope_repeats_at_the_ball_pass_frequency(section: int) -> None:
    """The envelope spectrum of the resonance peaks at the BPFO, within slip and speed wander."""
    design = SECTIONS[section]
    expected_hz = design.outer_race_order * design.shaft_hz
    worn = render_clip(2, 20.0, section, faulty=True)
    resonance_hz = design.structure_hz[1]
    band = signal.butter(
        4, (0.9 * resonance_hz, 1.1 * resonance_hz), "bandpass", fs=SAMPLE_RATE, output="sos"
    )

    envelope = np.abs(signal.hilbert(signal.sosfilt(band, worn)))
    frequencies, power = signal.welch(envelope - envelope.mean(), SAMPLE_RATE, nperseg=32_768)
    searched = (frequencies > 0.6 * expected_hz) & (frequencies < 1.6 * expected_hz)
    peak_hz = frequencies[searched][np.argmax(power[searched])]

    assert peak_hz == pytest.approx(expected_hz, rel=0.02)


@pytest.mark.parametrize("section", ALL_SECTIONS)
def test_machine_healthy_has_its_blade_passing_tone(section: int) -> None:
    """The strongest line around the blade-passing frequency is that frequency."""
    design = SECTIONS[section]
    expected_hz = design.n_blades * design.shaft_hz
    samples = render_clip(5, 20.0, section)

    frequencies, power = signal.welch(samples, SAMPLE_RATE, nperseg=16_384)
    searched = (frequencies > 0.9 * expected_hz) & (frequencies < 1.1 * expected_hz)
    # Multiples of the mains are lines too.
    searched &= np.abs(frequencies - 50.0 * np.rint(frequencies / 50.0)) > 5.0
    peak_hz = frequencies[searched][np.argmax(power[searched])]

    assert peak_hz == pytest.approx(expected_hz, rel=0.02)


def test_machine_other_seed_is_the_same_machine_a_little_different() -> None:
    """Recordings of one machine differ in every sample, and by at most a few dB in level."""
    clips = [render_clip(seed, 5.0) for seed in range(8)]

    levels_db = [level_db(clip) for clip in clips]

    assert not any(np.array_equal(clips[0], clip) for clip in clips[1:])
    assert 0.3 < max(levels_db) - min(levels_db) < 6.0


def test_machine_same_seed_gives_the_same_sound() -> None:
    """The sound is a function of seed and section."""
    assert np.array_equal(render_clip(9, 1.0, 2), render_clip(9, 1.0, 2))
    assert not np.array_equal(render_clip(9, 1.0, 2), render_clip(9, 1.0, 3))


def test_machine_unknown_section_is_refused() -> None:
    """Only the machines that exist can be chosen."""
    with pytest.raises(ValueError, match=r"^section=4 must be from 0 to 3$"):
        RotatingMachine(1, section=4)


def test_design_outer_race_order_follows_the_bearing_formula() -> None:
    """The textbook's 6205 bearing passes 3.585 balls a turn."""
    design = MachineDesign(
        30.0, 7, (1.0, 1.0), (1.0, 1.0), n_rolling_elements=9, ball_to_pitch=0.3126 / 1.537
    )

    # Case Western Reserve University's bearing data centre: 3.5848 for its drive end bearing.
    assert design.outer_race_order == pytest.approx(3.5848, abs=5e-4)


def test_machine_flow_noise_is_pink() -> None:
    """The noise falls by 10 dB a decade over the range that is heard."""
    frequencies = np.geomspace(40.0, 6_000.0, 30)
    _, response = signal.freqz(
        rotating_machine._PINK_B, rotating_machine._PINK_A, frequencies, fs=SAMPLE_RATE
    )
    levels_db = 20.0 * np.log10(np.abs(response))

    pink_db = levels_db[0] - 10.0 * np.log10(frequencies / frequencies[0])

    assert np.max(np.abs(levels_db - pink_db)) < 1.5


def test_machine_renders_far_faster_than_real_time() -> None:
    """A minute of sound takes less than 1.2 s to make."""
    n_seconds = 20
    start_s = time.process_time()

    render_clip(1, n_seconds)
    factor = n_seconds / (time.process_time() - start_s)

    print(f"simulator: {factor:.0f} times real time")
    assert factor > 50.0
