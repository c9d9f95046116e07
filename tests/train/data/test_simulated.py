from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.capture.simulator.rotating_machine import RotatingMachine
from tests.train.toy import RECIPE
from train.data.datasets import read_clips
from train.data.simulated import simulated_data
from train.recipe.tables import SimulatorRecipe

COUNTS = SimulatorRecipe(n_sections=2, n_train=4, n_test=1)


def test_simulated_data_are_clips_of_different_recordings(tmp_path: Path) -> None:
    """Clips are in the layout of DCASE 2021, 10 s long, and no two are alike."""
    recipe = replace(RECIPE, simulator=COUNTS)

    clips = read_clips(simulated_data(recipe, tmp_path)).clips

    counts = [(clip.section, clip.split, clip.label) for clip in clips]
    for section in ("00", "01"):
        assert counts.count((section, "train", "normal")) == 4
        assert counts.count((section, "test", "normal")) == 1
        assert counts.count((section, "test", "anomaly")) == 1
    samples = [read_clip(clip.path) for clip in clips]
    assert {len(one) for one in samples} == {160_000}
    assert len({one.tobytes() for one in samples}) == len(clips)


def test_simulated_data_is_the_sound_that_the_demo_plays(tmp_path: Path) -> None:
    """A clip is the simulator's own sound, kept exactly."""
    recipe = replace(RECIPE, seed=3, simulator=COUNTS)

    folder = simulated_data(recipe, tmp_path)

    name = "section_00_source_train_normal_0000_simulated.flac"
    expected = RotatingMachine(4_000_000, 0).process(160_000, faulty=False)
    assert np.array_equal(read_clip(folder / "train" / name), expected)


def test_simulated_data_are_made_once(tmp_path: Path) -> None:
    """A run that continues finds its clips; it does not make them again."""
    recipe = replace(RECIPE, simulator=COUNTS)
    folder = simulated_data(recipe, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")}

    assert simulated_data(recipe, tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")} == before


def test_simulated_data_that_two_make_at_once_are_made_once(tmp_path: Path) -> None:
    """One waits for the other; what a run that was killed has left is in neither's way."""
    recipe = replace(RECIPE, simulator=COUNTS)
    (tmp_path / "simulated_fan.part" / "train").mkdir(parents=True)
    (tmp_path / "simulated_fan.part" / "train" / "half.flac").touch()

    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: simulated_data(recipe, tmp_path), range(2)))

    assert folders[0] == folders[1]
    assert len(list(folders[0].rglob("*.flac"))) == 2 * (4 + 2 * 1)
    assert list(tmp_path.iterdir()) == [folders[0]]
