"""Tests of the windows over the frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.types import Float32Array, LogMelFrames, Window
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.windows import WindowSlicer, WindowSpec, slice_windows
from tests.detect.cutting import cuts

FEATURES = FeatureSpec(n_mels=3)
SPEC = WindowSpec()
N_SAMPLES = 63 * 512 + 1024


def rising_frames(n_frames: int) -> Float32Array:
    """Return frames that are all different, shape ``(n_frames, 3)``."""
    return np.arange(n_frames * 3, dtype=np.float32).reshape(n_frames, 3)


def streamed(
    frames: Float32Array, places: list[int], slicer: WindowSlicer, first_sample: int = 0
) -> list[Window]:
    """Return the windows that *slicer* makes of *frames* cut at *places*."""
    starts, stops = [0, *places], [*places, len(frames)]
    windows = []
    for start, stop in zip(starts, stops, strict=True):
        position = first_sample + start * FEATURES.hop_length
        windows += slicer.process(LogMelFrames(frames[start:stop], position))
    return windows


def assert_windows_equal(windows: list[Window], frames: Float32Array, first_sample: int) -> None:
    """Check *windows* against the offline ones of *frames*, bit for bit, and their positions."""
    expected = slice_windows(frames, SPEC)
    assert len(windows) == len(expected)
    for index, (window, values) in enumerate(zip(windows, expected, strict=True)):
        np.testing.assert_array_equal(window.values, values)
        assert window.first_sample == first_sample + index * 8 * 512
        assert window.n_samples == N_SAMPLES


@pytest.mark.parametrize(
    ("n_frames", "n_windows"),
    [(0, 0), (1, 0), (63, 0), (64, 1), (65, 1), (71, 1), (72, 2), (73, 2), (311, 31), (312, 32)],
)
def test_slice_windows_counts(n_frames: int, n_windows: int) -> None:
    """A window of 64 frames starts every 8 frames; ten seconds, 311 frames, give 31."""
    windows = slice_windows(rising_frames(n_frames), SPEC)

    assert windows.shape == (n_windows, 64, 3)
    assert windows.dtype == np.float32
    assert SPEC.n_windows(n_frames) == n_windows


def test_slice_windows_holds_the_frames_in_order() -> None:
    """Window k holds frames 8 k to 8 k + 63, as a plain slice gives them."""
    frames = rising_frames(200)

    windows = slice_windows(frames, SPEC)

    for index, window in enumerate(windows):
        np.testing.assert_array_equal(window, frames[8 * index : 8 * index + 64])


def test_slice_windows_is_a_view_that_cannot_be_written() -> None:
    """Windows overlap in memory, so none may be changed."""
    windows = slice_windows(rising_frames(100), SPEC)

    assert not windows.flags.writeable
    assert windows.base is not None


@pytest.mark.parametrize("n_frames", [0, 1, 63, 64, 65, 71, 72, 73, 311])
@pytest.mark.parametrize("block_frames", [1, 7, 8, 9, 64, 1000])
def test_slicer_streamed_equals_offline(n_frames: int, block_frames: int) -> None:
    """Windows do not depend on how many frames come at once."""
    frames = rising_frames(n_frames)

    windows = streamed(
        frames, list(range(block_frames, n_frames, block_frames)), WindowSlicer(FEATURES, SPEC)
    )

    assert_windows_equal(windows, frames, 0)


@given(cuts(200), st.integers(0, 2**40))
def test_slicer_any_cut_equals_offline(places: list[int], first_sample: int) -> None:
    """Windows do not depend on the cut of the frames, also where no frame comes."""
    frames = rising_frames(200)

    windows = streamed(frames, places, WindowSlicer(FEATURES, SPEC), first_sample)

    assert_windows_equal(windows, frames, first_sample)


@pytest.mark.parametrize("hop_frames", [1, 3, 5])
def test_slicer_other_hops_equal_offline(hop_frames: int) -> None:
    """Windows of another geometry come as the spec says."""
    spec = WindowSpec(n_frames=5, hop_frames=hop_frames, median_frames=1)
    frames = rising_frames(40)

    windows = streamed(frames, list(range(1, 40)), WindowSlicer(FEATURES, spec))

    np.testing.assert_array_equal(
        np.stack([window.values for window in windows]), slice_windows(frames, spec)
    )
    assert {window.n_samples for window in windows} == {4 * 512 + 1024}


def test_slicer_reset_equals_new() -> None:
    """After a reset nothing of the frames before is left, and any position may follow."""
    slicer = WindowSlicer(FEATURES, SPEC)
    streamed(rising_frames(70) + 1_000, [], slicer)

    slicer.reset()
    windows = streamed(rising_frames(100), [50], slicer, first_sample=12_345)

    assert_windows_equal(windows, rising_frames(100), 12_345)


@pytest.mark.parametrize("first_sample", [0, 10 * 512 - 1, 10 * 512 + 1, 11 * 512])
def test_slicer_frames_that_do_not_continue_raise(first_sample: int) -> None:
    """A jump in the positions is a bug of the caller, told with both positions."""
    slicer = WindowSlicer(FEATURES, SPEC)
    slicer.process(LogMelFrames(rising_frames(10), 0))

    with pytest.raises(ValueError, match=f"^first_sample={first_sample} must be 5120$"):
        slicer.process(LogMelFrames(rising_frames(1), first_sample))


def test_slicer_keeps_its_windows_when_more_frames_come() -> None:
    """A window handed out does not change afterwards."""
    slicer = WindowSlicer(FEATURES, SPEC)
    frames = rising_frames(200)
    (window,) = slicer.process(LogMelFrames(frames[:64], 0))

    slicer.process(LogMelFrames(frames[64:], 64 * 512))

    np.testing.assert_array_equal(window.values, frames[:64])
