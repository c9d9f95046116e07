from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from edgeasd.capture.recording.wavfile import read_clip
from edgeasd.detect.features import FeatureSpec, log_mel
from train.data.datasets import read_clips
from train.report.misses import draw_misses, find_misses
from train.report.plots import ScoredClip

SPEC = FeatureSpec()


def test_misses_come_worst_first_against_their_thresholds(toy_data: Path) -> None:
    """Clips are ranked by their distance to their own section's threshold."""
    train, tests = _scored(toy_data)
    thresholds = {"00": 0.0, "01": 100.0}

    misses = find_misses(train, tests, thresholds, "anomaly", SPEC)
    alarms = find_misses(train, tests, thresholds, "normal", SPEC)

    scores = [one.score for one in tests if _kind(one) == ("01", "anomaly")]
    assert [one.scored.score for one in misses] == sorted(scores)[:3]
    assert [one.verdict for one in misses] == ["missed"] * 3
    scores = [one.score for one in tests if _kind(one) == ("00", "normal")]
    assert [one.scored.score for one in alarms] == sorted(scores, reverse=True)[:3]
    assert [one.verdict for one in alarms] == ["false alarm"] * 3


def test_misses_without_any_are_the_nearest_clips(toy_data: Path) -> None:
    """Where every clip is on the right side, the nearest to the threshold are shown as such."""
    train, tests = _scored(toy_data)

    misses = find_misses(train, tests, {"00": -9.0, "01": -9.0}, "anomaly", SPEC)
    alarms = find_misses(train, tests, {"00": 9e9, "01": 9e9}, "normal", SPEC)

    assert [one.verdict for one in misses] == ["found"] * 3
    assert [one.verdict for one in alarms] == ["no alarm"] * 3


def test_misses_are_compared_with_training_clips_of_their_domain(toy_data: Path) -> None:
    """Sound of the target domain is not compared with the many clips of the source domain."""
    train, tests = _scored(toy_data)
    target = [one for one in tests if one.clip.domain == "target"]

    (miss, *_) = find_misses(train, target, {"00": 1e9, "01": 0.0}, "normal", SPEC)

    paths = sorted((toy_data / "train").glob("section_01_target_*"))
    spectra = [log_mel(read_clip(path), SPEC).mean(axis=0) for path in paths]
    assert miss.n_normal == 2
    np.testing.assert_allclose(miss.normal, np.mean(spectra, axis=0), rtol=1e-5)


def test_misses_without_training_clips_are_drawn(toy_data: Path) -> None:
    """A clip is shown even if there is no normal sound left to compare it with."""
    _, tests = _scored(toy_data)

    misses = find_misses([], tests, {"00": 1.0, "01": 1.0}, "anomaly", SPEC)

    assert [one.n_normal for one in misses] == [0] * 3
    assert draw_misses(misses, SPEC) is not None


def test_misses_clip_shorter_than_a_frame_is_named(toy_data: Path, tmp_path: Path) -> None:
    """A clip that has no frame is not drawn, and the reason says so."""
    _, (first, *_) = _scored(toy_data)
    soundfile.write(tmp_path / "short.wav", np.zeros(1023), SPEC.sample_rate)
    short = replace(first, clip=replace(first.clip, path=tmp_path / "short.wav", label="anomaly"))

    misses = find_misses([], [short], {"00": 1.0}, "anomaly", SPEC)

    assert misses[0].fault == f"{tmp_path}/short.wav: is shorter than a frame of 1024 samples"
    assert draw_misses(misses, SPEC) is None


def _scored(folder: Path) -> tuple[list[ScoredClip], list[ScoredClip]]:
    """Return training and test clips whose scores are 0, 1, 2 and so on."""
    clips = [
        ScoredClip(clip, float(i), np.zeros(2, np.float32))
        for i, clip in enumerate(read_clips(folder).clips)
    ]
    return (
        [one for one in clips if one.clip.split == "train"],
        [one for one in clips if one.clip.split == "test"],
    )


def _kind(one: ScoredClip) -> tuple[str, str]:
    return one.clip.section, one.clip.label
