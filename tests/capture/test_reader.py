"""Positions tell the time, whatever the device does with the sound of a standstill."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeasd.capture.microphone.reader import Continuity

RATE = 16_000
BLOCK = 512
BLOCK_S = BLOCK / RATE


class Device:
    """Reads blocks of a device on a clock of its own, and keeps the position."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.position = 0
        self.n_kept = 0
        self.n_gaps = 0
        self._continuity = Continuity(RATE, 2.0, self.now_s)

    def read(self, waited_s: float, *, lost: bool = False) -> int | None:
        """Read a block that comes after *waited_s* seconds."""
        asked_s = self.now_s
        self.now_s += waited_s
        n_lost = self._continuity.n_lost_before(BLOCK, asked_s, self.now_s, lost=lost)
        if n_lost is not None:
            self.position += n_lost + BLOCK
            self.n_kept += 1
            self.n_gaps += n_lost > 0
        return n_lost

    @property
    def lag_s(self) -> float:
        """How far the position is behind the clock."""
        return self.now_s - 100.0 - self.position / RATE


def test_continuity_steady_device_has_no_gap() -> None:
    """Blocks that come as they are made follow each other."""
    device = Device()

    results = [device.read(BLOCK_S) for _ in range(100)]

    assert results == [0] * 100


def test_continuity_bursts_are_no_gap() -> None:
    """A device may deliver several blocks at once."""
    device = Device()

    results = [device.read(waited_s) for waited_s in (5 * BLOCK_S, 0.0, 0.0, 0.0, 0.0) * 20]

    assert results == [0] * 100


def test_continuity_sound_lost_in_a_standstill_is_a_gap_as_long() -> None:
    """Sound that never comes is lost by the clock."""
    device = Device()
    device.read(BLOCK_S)

    first, second, third = device.read(5.0), device.read(BLOCK_S), device.read(BLOCK_S)

    assert first is None
    assert second == 5 * RATE
    assert third == 0
    assert abs(device.lag_s) < 1e-9


def test_continuity_sound_delivered_late_is_dropped() -> None:
    """Sound that waited is dropped, so that the position is that of now."""
    device = Device()
    device.read(BLOCK_S)

    device.read(5.0)
    late = [device.read(0.0005) for _ in range(120)]
    fresh = device.read(BLOCK_S)

    assert late == [None] * 120
    assert fresh is not None
    assert abs(device.lag_s) < 1e-3
    assert device.n_gaps == 1


def test_continuity_loss_reported_by_the_device_is_at_least_one_sample() -> None:
    """An overflow is a gap even if the clock sees no time for it."""
    device = Device()
    device.read(BLOCK_S)

    assert device.read(0.0, lost=True) == 1


def test_continuity_device_always_in_a_hurry_is_kept_after_the_time_passed() -> None:
    """A device that never waits is not dropped for ever."""
    device = Device()
    device.read(5.0)

    results = [device.read(0.0) for _ in range(200)]

    assert results.count(None) == 5 * RATE // BLOCK - 1
    assert device.n_gaps == 1
    assert results[-1] == 0


@given(
    reads=st.lists(
        st.tuples(st.sampled_from([0.0, 0.001, BLOCK_S, 0.5, 4.0]), st.booleans()), max_size=60
    )
)
def test_continuity_position_is_that_of_the_clock_after_every_gap(
    reads: list[tuple[float, bool]],
) -> None:
    """Whatever happens, a kept block after a loss stands at its time or at least 1 further."""
    device = Device()
    kept_s = device.now_s
    for waited_s, lost in reads:
        n_lost = device.read(waited_s, lost=lost)
        if n_lost is not None and n_lost > 0:
            passed = round((device.now_s - kept_s) * RATE)
            assert n_lost == max(1, passed - BLOCK)
        if n_lost is not None:
            kept_s = device.now_s
