"""The simulator as a source: schedule and pace."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgeasd.capture.simulator.rotating_machine import SAMPLE_RATE, RotatingMachine
from edgeasd.capture.simulator.simulator import Simulator
from edgeasd.capture.source import open_source
from edgeasd.common.config.keys import SimulatorConfig

if TYPE_CHECKING:
    import pytest

    from edgeasd.common.types import AudioBlock


def read_samples(source: Simulator, n_samples: int) -> npt.NDArray[np.float32]:
    """Return the first *n_samples* samples of *source*, checking that none is missing."""
    pieces = []
    position = 0
    while position < n_samples:
        block = source.read(1.0)
        assert block is not None
        assert block.first_sample == position
        pieces.append(block.samples)
        position += block.samples.size
    return np.concatenate(pieces)[:n_samples]


def test_simulator_fault_schedule_is_kept_to_the_sample() -> None:
    """The fault begins and ends at the configured seconds, exactly."""
    config = SimulatorConfig(seed=4, fault_after_s=0.7001, fault_duration_s=0.55, paced=False)
    machine = RotatingMachine(4)
    start, end = 11_202, 11_202 + 8_800
    expected = np.concatenate(
        [
            machine.process(start, faulty=False),
            machine.process(end - start, faulty=True),
            machine.process(10_000, faulty=False),
        ]
    )

    actual = read_samples(Simulator(config), end + 10_000)

    assert np.array_equal(actual, expected)


def test_simulator_fault_duration_zero_stays_healthy() -> None:
    """Without a duration there is never a fault."""
    config = SimulatorConfig(seed=4, fault_after_s=0.5, fault_duration_s=0.0, paced=False)

    actual = read_samples(Simulator(config), 2 * SAMPLE_RATE)

    assert np.array_equal(actual, RotatingMachine(4).process(2 * SAMPLE_RATE, faulty=False))


def test_simulator_paced_keeps_real_time() -> None:
    """No block comes before a sound card could deliver it."""
    source = Simulator(SimulatorConfig())
    start_s = time.monotonic()

    read_samples(source, 4_096)

    assert time.monotonic() - start_s >= 4_096 / SAMPLE_RATE


def test_simulator_paced_late_reader_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines count from the start: what was missed comes at once, then the pace goes on."""
    clock_s = [100.0]
    monkeypatch.setattr("edgeasd.capture.pace.time.monotonic", lambda: clock_s[0])
    source = Simulator(SimulatorConfig())

    at_start = source.read(0.0)
    clock_s[0] += 10.5 * 0.032
    caught_up = list(iter(lambda: source.read(0.0), None))

    assert at_start is None
    assert [block.first_sample for block in caught_up] == [512 * n for n in range(10)]


def test_simulator_paced_block_not_due_gives_none() -> None:
    """A timeout shorter than a block gives None and loses nothing."""
    source = Simulator(SimulatorConfig())

    early = source.read(0.001)
    block = source.read(1.0)

    assert early is None
    assert block is not None
    assert block.first_sample == 0


def test_simulator_closed_gives_nothing_more() -> None:
    """After `close` a read returns None at once, and a read that waits returns."""
    source = Simulator(SimulatorConfig())
    results: list[AudioBlock] = []
    reader = threading.Thread(target=lambda: results.extend(iter(lambda: source.read(30.0), None)))
    reader.start()

    source.close()
    reader.join(60.0)

    assert not reader.is_alive()
    assert source.read(30.0) is None


def test_open_source_simulator_config_gives_a_healthy_source() -> None:
    """The simulator has the form of every source: 16 kHz, without end or fault."""
    source = open_source(SimulatorConfig(paced=False))

    block = source.read(0.0)

    assert isinstance(source, Simulator)
    assert block is not None
    assert (source.sample_rate, source.ended, source.overruns, source.fault) == (
        16_000,
        False,
        0,
        "",
    )
