"""The ring gives every sample once, at its position, or says that it is lost."""

from __future__ import annotations

import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgeasd.capture.ringbuffer import RingBuffer

if TYPE_CHECKING:
    from edgeasd.common.types import Int16Array

CAPACITY = 50


def samples_at(first_sample: int, n_samples: int) -> Int16Array:
    """Return samples whose values tell their position."""
    return (np.arange(first_sample, first_sample + n_samples) % 30_000).astype(np.int16)


def test_ring_empty_gives_none_after_the_timeout() -> None:
    """A reader waits no longer than it said."""
    ring = RingBuffer(CAPACITY)
    start_s = time.monotonic()

    result = ring.read(10, 0.05)

    assert result is None
    assert time.monotonic() - start_s >= 0.05


def test_ring_full_drops_the_oldest() -> None:
    """A reader that fell behind gets the newest sound, and one overrun is counted."""
    ring = RingBuffer(CAPACITY)
    for first in range(0, 130, 10):
        ring.write(samples_at(first, 10))

    result = ring.read(1000, 0.0)

    assert result is not None
    assert result[1] == 80
    assert np.array_equal(result[0], samples_at(80, 50))
    assert ring.overruns == 1


def test_ring_overrun_after_a_read_counts_again() -> None:
    """Each time that the reader falls behind is one overrun."""
    ring = RingBuffer(CAPACITY)
    ring.write(samples_at(0, 50))
    ring.write(samples_at(50, 10))
    ring.read(5, 0.0)

    ring.write(samples_at(60, 10))

    assert ring.overruns == 2


def test_ring_gap_marked_is_a_jump_for_the_reader() -> None:
    """Samples on both sides of a gap are kept, in two reads, apart by what is lost."""
    ring = RingBuffer(CAPACITY)
    ring.write(samples_at(0, 10))
    ring.mark_gap(7)
    ring.write(samples_at(17, 10))

    before, after = ring.read(100, 0.0), ring.read(100, 0.0)

    assert before is not None
    assert after is not None
    assert (before[1], before[0].size) == (0, 10)
    assert (after[1], after[0].size) == (17, 10)
    assert ring.overruns == 1


def test_ring_gaps_in_a_row_add_up() -> None:
    """Two gaps without sound between them are one jump as long as both."""
    ring = RingBuffer(CAPACITY)
    ring.mark_gap(3)
    ring.mark_gap(4)
    ring.write(samples_at(7, 1))

    result = ring.read(100, 0.0)

    assert result is not None
    assert result[1] == 7


def test_ring_read_returns_a_copy() -> None:
    """What was read does not change when the writer comes round."""
    ring = RingBuffer(CAPACITY)
    ring.write(samples_at(0, 50))

    result = ring.read(50, 0.0)
    ring.write(samples_at(50, 50))

    assert result is not None
    assert np.array_equal(result[0], samples_at(0, 50))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RingBuffer(0), "capacity=0 must be at least 1"),
        (lambda: RingBuffer(4).write(samples_at(0, 5)), "n_samples=5 must be at most capacity=4"),
        (lambda: RingBuffer(4).mark_gap(0), "n_lost=0 must be at least 1"),
    ],
)
def test_ring_impossible_request_is_refused(call: object, message: str) -> None:
    """A caller's mistake is named."""
    assert callable(call)

    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


def test_ring_close_ends_a_waiting_read() -> None:
    """A reader that waits for ever returns when the ring is closed."""
    ring = RingBuffer(CAPACITY)
    results: list[object] = []
    reader = threading.Thread(target=lambda: results.append(ring.read(10, 3600.0)))
    reader.start()

    ring.close()
    reader.join(60.0)

    assert results == [None]


def test_ring_write_wakes_the_reader() -> None:
    """A waiting reader gets samples when they come, not when its time is over."""
    ring = RingBuffer(CAPACITY)
    results: list[tuple[Int16Array, int] | None] = []
    reader = threading.Thread(target=lambda: results.append(ring.read(10, 3600.0)))
    reader.start()

    ring.write(samples_at(0, 3))
    reader.join(60.0)

    assert results[0] is not None
    assert results[0][0].tolist() == [0, 1, 2]


def test_ring_two_threads_lose_and_repeat_nothing() -> None:
    """With a reader that keeps up, every sample arrives once and in order."""
    ring = RingBuffer(100_000)
    n_samples = 90_000
    cuts = np.random.default_rng(0).integers(1, 700, 1000)

    def write_all() -> None:
        first = 0
        for cut in cuts:
            n_written = min(int(cut), n_samples - first)
            ring.write(samples_at(first, n_written))
            first += n_written

    writer = threading.Thread(target=write_all)
    writer.start()
    pieces: list[Int16Array] = []
    while sum(piece.size for piece in pieces) < n_samples:
        result = ring.read(333, 5.0)
        assert result is not None
        assert result[1] == sum(piece.size for piece in pieces)
        pieces.append(result[0])
    writer.join()

    assert np.array_equal(np.concatenate(pieces), samples_at(0, n_samples))
    assert ring.overruns == 0


def test_ring_write_allocates_no_array() -> None:
    """Writing for long takes no memory, read or not."""
    ring = RingBuffer(10_000)
    samples = samples_at(0, 4_000)
    ring.write(samples)
    tracemalloc.start()

    for _ in range(100):
        ring.write(samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < samples.nbytes / 4


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=40), take=st.integers(1, 60))
def test_ring_kept_up_with_gives_the_stream_back(cuts: list[int], take: int) -> None:
    """However writes and reads are cut, the reader gets the written samples."""
    ring = RingBuffer(CAPACITY)
    pieces = []
    written = 0
    for cut in cuts:
        ring.write(samples_at(written, cut))
        written += cut
        while (result := ring.read(take, 0.0)) is not None:
            pieces.append(result[0])

    assert np.array_equal(np.concatenate(pieces), samples_at(0, written))
    assert ring.overruns == 0


class RingAgainstModel(RuleBasedStateMachine):
    """Any sequence of writes, gaps and reads, held against a plain list of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = RingBuffer(CAPACITY)
        self.position = 0
        self.unread: list[int] = []
        self.next_read = 0
        self.jumps = 0

    @rule(n_samples=st.integers(0, CAPACITY))
    def write(self, n_samples: int) -> None:
        self.ring.write(samples_at(self.position, n_samples))
        self.unread += range(self.position, self.position + n_samples)
        self.unread = self.unread[-CAPACITY:]
        self.position += n_samples

    @rule(n_lost=st.integers(1, 200))
    def mark_gap(self, n_lost: int) -> None:
        self.ring.mark_gap(n_lost)
        self.position += n_lost

    @rule(max_samples=st.integers(1, 2 * CAPACITY))
    def read(self, max_samples: int) -> None:
        result = self.ring.read(max_samples, 0.0)
        if not self.unread:
            assert result is None
            return
        assert result is not None
        samples, first_sample = result
        positions = list(range(first_sample, first_sample + samples.size))
        assert 1 <= samples.size <= max_samples
        assert positions == self.unread[: samples.size]
        assert np.array_equal(samples, samples_at(first_sample, samples.size))
        self.jumps += first_sample != self.next_read
        self.next_read = first_sample + samples.size
        self.unread = self.unread[samples.size :]

    @invariant()
    def no_silent_loss(self) -> None:
        assert self.jumps <= self.ring.overruns
        if self.ring.overruns == 0:
            assert self.jumps == 0


TestRingAgainstModel = RingAgainstModel.TestCase
