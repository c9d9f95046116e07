"""Computes the sound of a fan on an induction motor, healthy or with a worn bearing.

The parts of the sound and their origin:

- **shaft harmonics**: imbalance and misalignment, at multiples of the shaft speed;
- **blade-passing tones**: ``n_blades`` times the shaft speed and multiples, modulated once per turn
  because the blades differ slightly (Norton and Karczub (2003), *Fundamentals of Noise and
  Vibration Analysis for Engineers*);
- **flow noise**: pink noise that pulses with the blades and excites resonances of the casing;
- **hum** of the motor's magnetic forces, strongest at twice the mains frequency;
- **room**: pink background noise of a hall, and white noise of the microphone;
- **the fault**: each time a rolling element passes a pit in the outer race, a short impulse excites
  two structural resonances (Randall and Antoni (2011), "Rolling element bearing
  diagnostics - a tutorial", *Mechanical Systems and Signal Processing* 25(2)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import signal

from edgeasd.common.types import INT16_FULL_SCALE, Float32Array, Float64Array

SAMPLE_RATE = 16_000

_HOP = 1_600  # samples that are computed together, however many are asked for

_MAINS_HZ = 50
_HUM = ((1, 0.2), (2, 1.0), (3, 0.1), (4, 0.4), (6, 0.2))  # multiple of the mains, amplitude
_SHAFT = ((1, 1.0), (2, 0.5), (3, 0.25))  # multiple of the shaft speed, amplitude
_BLADES = ((1, 1.0), (2, 0.45), (3, 0.25), (4, 0.12))  # multiple of the blade-passing frequency
_BLADE_MODULATION = 0.25

_WANDER_TIME_S = 5.0  # a fan's inertia and the grid's frequency do not change faster
_SPEED_WANDER = 0.001  # standard deviation, relative
_LOAD_WANDER_DB = 0.3

# Amplitudes re full scale.  The sum is near -27 dB with peaks below -3 dB, as from a microphone at
# a distance of half a metre with a suitable gain.
_SHAFT_LEVEL = 0.006
_BLADE_LEVEL = 0.018
_HUM_LEVEL = 0.010
_FLOW_LEVEL = 0.022
_CASING_LEVEL = 0.012
_ROOM_LEVEL = 0.003
_MICROPHONE_NOISE_LEVEL = 0.0003
_FAULT_LEVEL = 0.03  # 2.5 dB below the healthy machine, which makes the sum 1.5 to 2.2 dB louder

_SLIP = 0.015  # random part of each interval between impulses: 1 to 2 %, Randall and Antoni (2011)

# Three-pole pinking filter: J. O. Smith, "Spectral Audio Signal Processing" (2011), section
# "Example: Synthesis of 1/F Noise (Pink Noise)".
_PINK_B = (0.049922035, -0.095993537, 0.050612699, -0.004408786)
_PINK_A = (1.0, -2.494956002, 2.017265875, -0.522189400)


@dataclass(frozen=True, slots=True)
class MachineDesign:
    """Properties of a machine that never change.

    Attributes:
        shaft_hz: Shaft speed at normal load, revolutions per second.
        n_blades: Number of blades of the fan.
        casing_hz: Resonances of the casing, which flow noise excites.
        structure_hz: Resonances of the bearing housing, which impulses excite.
        n_rolling_elements: Number of balls of the bearing.
        ball_to_pitch: Diameter of a ball over the pitch diameter of the bearing.
        contact_angle_rad: Contact angle of the bearing, radians.
    """

    shaft_hz: float
    n_blades: int
    casing_hz: tuple[float, float]
    structure_hz: tuple[float, float]
    n_rolling_elements: int
    ball_to_pitch: float
    contact_angle_rad: float = 0.0  # a deep-groove ball bearing under radial load

    @property
    def outer_race_order(self) -> float:
        """Number of balls that pass a point of the outer race in one turn of the shaft.

        Multiplied by the shaft speed it is the ball-pass frequency of the outer race, BPFO:
        ``n / 2 * shaft_hz * (1 - d / D * cos(angle))``, Randall and Antoni (2011).
        """
        return (
            self.n_rolling_elements
            / 2.0
            * (1.0 - self.ball_to_pitch * math.cos(self.contact_angle_rad))
        )


# Induction motors on a 50 Hz grid with about 2 % slip and 4, 4, 2 and 6 poles.  The bearings are
# the sizes 6205 (7.94 mm balls on 39.04 mm), 6203 (6.75 on 28.5), 6205 and 6206 (9.53 on 46.0).
SECTIONS = (
    MachineDesign(24.5, 7, (620.0, 1_450.0), (2_900.0, 5_200.0), 9, 0.2034),
    MachineDesign(24.3, 9, (480.0, 1_130.0), (2_600.0, 4_700.0), 8, 0.2368),
    MachineDesign(48.8, 6, (790.0, 1_820.0), (3_300.0, 5_800.0), 9, 0.2034),
    MachineDesign(16.3, 11, (390.0, 1_650.0), (2_400.0, 4_400.0), 9, 0.2072),
)
"""The simulated machines, in the order of their section numbers."""


class RotatingMachine:
    """An endless recording of one machine.

    The section selects the machine.  The seed sets everything random and the circumstances of the
    recording: speed, load, microphone gain and background differ a little between recordings.

    The same seed and section give the same sound, bit for bit, however it is cut.
    """

    def __init__(self, seed: int, section: int = 0) -> None:
        if not 0 <= section < len(SECTIONS):
            raise ValueError(f"section={section} must be from 0 to {len(SECTIONS) - 1}")
        self._design = SECTIONS[section]
        sound, impulses = np.random.SeedSequence([seed, section]).spawn(2)
        self._rng = np.random.default_rng(sound)
        self._speed = 1.0 + self._rng.normal(0.0, 0.005)
        self._load_db = self._rng.normal(0.0, 0.7)
        self._gain = _from_db(self._rng.normal(0.0, 0.7))
        self._room = _from_db(self._rng.normal(0.0, 2.0))
        self._phases = self._rng.uniform(0.0, 2.0 * np.pi, 12)
        self._wander = self._rng.normal(size=2)  # of speed and load, standard deviation 1
        self._angle = self._rng.uniform()  # of the shaft, revolutions
        self._flow = _Filter(_PINK_B, _PINK_A)
        self._casing = [_resonator(hz, 0.004) for hz in self._design.casing_hz]
        self._room_noise = _Filter(_PINK_B, _PINK_A)
        self._bearing = _WornBearing(self._design, np.random.default_rng(impulses))
        self._n_hops = 0
        self._healthy = np.empty(0)
        self._fault = np.empty(0)

    def process(self, n_samples: int, *, faulty: bool) -> Float32Array:
        """Return the next *n_samples* samples at 16 kHz, rounded to 16 bits.

        Args:
            n_samples: Number of samples; 0 gives an empty array.
            faulty: Whether the bearing is worn during these samples.
        """
        pieces = [np.empty(0)]
        while n_samples > 0:
            if self._healthy.size == 0:
                self._next_hop()
            n_taken = min(n_samples, self._healthy.size)
            piece = self._healthy[:n_taken]
            pieces.append(piece + self._fault[:n_taken] if faulty else piece)
            self._healthy = self._healthy[n_taken:]
            self._fault = self._fault[n_taken:]
            n_samples -= n_taken
        steps = np.rint(np.concatenate(pieces) * INT16_FULL_SCALE)
        return (steps / INT16_FULL_SCALE).astype(np.float32)

    def _next_hop(self) -> None:
        before = self._wander
        keep = math.exp(-_HOP / SAMPLE_RATE / _WANDER_TIME_S)
        noise = self._rng.normal(size=2)
        self._wander = keep * before + math.sqrt(1.0 - keep**2) * noise
        ramp = np.arange(1, _HOP + 1) / _HOP
        speed_wander, load_wander = before[:, None] + (self._wander - before)[:, None] * ramp
        speed = self._design.shaft_hz * self._speed * (1.0 + _SPEED_WANDER * speed_wander)
        start = self._angle
        angle = start + np.cumsum(speed) / SAMPLE_RATE
        self._angle = float(angle[-1]) % 1.0
        load: Float64Array = 10.0 ** ((self._load_db + _LOAD_WANDER_DB * load_wander) / 20.0)
        self._healthy = self._gain * (load * self._moving_parts(angle) + self._surroundings())
        self._fault = self._gain * load * self._bearing.process(start, angle)
        self._n_hops += 1

    def _moving_parts(self, angle: Float64Array) -> Float64Array:
        turn = 2.0 * np.pi * angle
        blade_turn = self._design.n_blades * turn
        swell = 1.0 + _BLADE_MODULATION * np.cos(turn)
        blades = swell * _harmonics(blade_turn, _BLADES, self._phases[:4])
        shaft = _harmonics(turn, _SHAFT, self._phases[4:7])
        flow = self._flow.process(self._rng.standard_normal(_HOP))
        casing = sum(resonance.process(flow) for resonance in self._casing)
        pulse = 1.0 + _BLADE_MODULATION * np.cos(blade_turn)
        flowing = pulse * (_FLOW_LEVEL * flow + _CASING_LEVEL * casing)
        return _BLADE_LEVEL * blades + _SHAFT_LEVEL * shaft + flowing

    def _surroundings(self) -> Float64Array:
        first = self._n_hops * _HOP % SAMPLE_RATE  # every harmonic of the mains repeats in 1 s
        mains_turn = (
            2.0 * np.pi * _MAINS_HZ / SAMPLE_RATE * np.arange(first, first + _HOP, dtype=np.float64)
        )
        hum = _harmonics(mains_turn, _HUM, self._phases[7:12])
        room = self._room_noise.process(self._rng.standard_normal(_HOP))
        hiss = self._rng.standard_normal(_HOP)
        return _HUM_LEVEL * hum + self._room * _ROOM_LEVEL * room + _MICROPHONE_NOISE_LEVEL * hiss


class _WornBearing:
    """Sound of a worn bearing: impulses at the ball-pass frequency that excite two resonances."""

    def __init__(self, design: MachineDesign, rng: np.random.Generator) -> None:
        self._order = design.outer_race_order
        self._rng = rng
        low, high = design.structure_hz
        self._resonances = [_resonator(low, 0.0015), _resonator(high, 0.0009)]
        # One impulse in n samples has the power of white noise of amplitude 1 / sqrt(n), which the
        # two resonances share.
        self._impulse = math.sqrt(SAMPLE_RATE / (design.shaft_hz * self._order) / 2.0)
        self._until_next = float(rng.uniform()) / self._order  # revolutions

    def process(self, start: float, angle: Float64Array) -> Float64Array:
        """Return the sound of the fault while the shaft turns from *start* through *angle*."""
        at = []
        turned = float(angle[-1]) - start
        while self._until_next < turned:
            at.append(start + self._until_next)
            self._until_next += (1.0 + self._rng.normal(0.0, _SLIP)) / self._order
        self._until_next -= turned
        drive = np.zeros(angle.size)
        strength = self._rng.lognormal(0.0, 0.2, len(at))
        drive[np.searchsorted(angle, at)] = self._impulse * strength
        ringing = [resonance.process(drive) for resonance in self._resonances]
        return _FAULT_LEVEL * (ringing[0] + ringing[1])


class _Filter:
    """A linear filter with its state, scaled so that white noise keeps its power."""

    def __init__(self, b: npt.ArrayLike, a: npt.ArrayLike) -> None:
        impulse = np.zeros(SAMPLE_RATE)
        impulse[0] = 1.0
        response = signal.lfilter(b, a, impulse)
        self._b = np.asarray(b) / math.sqrt(float(np.sum(response**2)))
        self._a = np.asarray(a)
        self._state = np.zeros(max(self._a.size, self._b.size) - 1)

    def process(self, samples: Float64Array) -> Float64Array:
        filtered: Float64Array
        filtered, self._state = signal.lfilter(self._b, self._a, samples, zi=self._state)
        return filtered


def _resonator(frequency_hz: float, decay_s: float) -> _Filter:
    """Return the filter whose impulse response is ``exp(-t / decay_s) * sin(2 pi f t)``."""
    radius = math.exp(-1.0 / (decay_s * SAMPLE_RATE))
    turn = 2.0 * math.pi * frequency_hz / SAMPLE_RATE
    return _Filter((0.0, 1.0), (1.0, -2.0 * radius * math.cos(turn), radius**2))


def _harmonics(
    turn: Float64Array, series: tuple[tuple[int, float], ...], phases: Float64Array
) -> Float64Array:
    total = np.zeros(turn.size)
    for (multiple, amplitude), phase in zip(series, phases, strict=True):
        total += amplitude * np.cos(multiple * turn + phase)
    return total


def _from_db(level_db: float) -> float:
    return float(10.0 ** (level_db / 20.0))


def render_clip(
    seed: int, duration_s: float, section: int = 0, *, faulty: bool = False
) -> Float32Array:
    """Return one recording of a machine; another seed gives the same machine at another time.

    Args:
        seed: Seed of the circumstances of the recording and everything random in it.
        duration_s: Length, seconds.
        section: Number of the machine, from 0 to 3.
        faulty: Whether its bearing is worn.

    Returns:
        Shape ``(n_samples,)`` at 16 kHz, full scale is +-1.0.
    """
    return RotatingMachine(seed, section).process(round(duration_s * SAMPLE_RATE), faulty=faulty)
