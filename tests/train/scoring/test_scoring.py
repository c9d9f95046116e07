"""Tests of the scores of normal sound that thresholds are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeasd.baseline.covariance import MahalanobisRecipe
from edgeasd.detect.scoring import NetworkOutput, clip_score
from tests.train.toy import RECIPE
from train.data.clips import Clip
from train.recipe.tables import NearestRecipe, ScoringRecipe
from train.scoring.clusters import ClipEmbeddings, learn_normal
from train.scoring.scoring import ClipOutputs, learn_normal_of, make_scorings, normal_scores

SECTIONS = ["00", "01"]
N_DIMS, N_WINDOWS = 4, 6
RECIPE_4 = replace(
    RECIPE,
    scoring=ScoringRecipe("mahalanobis", clip_windows=N_WINDOWS, holdout=0.0),
    mahalanobis=MahalanobisRecipe(source_weight=0.1),
    nearest=NearestRecipe(n_centroids=2),
)


def make_outputs(counts: dict[tuple[str, str], int], seed: int = 0) -> list[ClipOutputs]:
    """Return so many clips of each section and domain, of random embeddings."""
    rng = np.random.default_rng(seed)
    return [
        ClipOutputs(
            Clip(Path(f"{section}_{domain}_{i}.wav"), "fan", section, domain, "train", "normal"),
            [
                NetworkOutput(row.astype(np.float32), None)
                for row in rng.normal(3.0, 1.0, (N_WINDOWS, N_DIMS))
            ],
        )
        for (section, domain), n_clips in counts.items()
        for i in range(n_clips)
    ]


def score_without(
    one: ClipOutputs, left_out: Sequence[ClipOutputs], clips: Sequence[ClipOutputs], method: str
) -> float:
    """Return the score of *one* by a model that is learned without *left_out*."""
    rest = [
        ClipEmbeddings(
            other.clip, np.stack([row.embedding for row in other.outputs]).astype(np.float64)
        )
        for other in clips
        if other not in left_out
    ]
    assert one.clip not in [other.clip for other in rest]
    normal = learn_normal(method, rest, SECTIONS, RECIPE_4)
    scorings = make_scorings(method, SECTIONS, normal, RECIPE_4)
    return clip_score(scorings[one.clip.section], one.outputs)


@pytest.mark.parametrize("method", ["mahalanobis", "nearest"])
def test_normal_scores_without_held_out_clips_score_each_by_what_the_others_teach(
    method: str,
) -> None:
    """With fewer than ten clips a domain, the n-th of each domain are left out together."""
    counts = {("00", "source"): 9, ("00", "target"): 3, ("01", "source"): 8, ("01", "target"): 2}
    clips = make_outputs(counts)
    scorings = make_scorings(
        method, SECTIONS, learn_normal_of(method, clips, SECTIONS, RECIPE_4), RECIPE_4
    )

    scores = normal_scores(method, clips, [], scorings, RECIPE_4)

    for section, actual in zip(SECTIONS, scores, strict=True):
        expected = []
        for one in clips:
            number = one.clip.path.stem.split("_")[2]
            fold = [other for other in clips if other.clip.path.stem.split("_")[2] == number]
            if one.clip.section == section:
                expected.append(score_without(one, fold, clips, method))
        assert sorted(actual) == pytest.approx(sorted(expected))
        own = [clip_score(scorings[section], one.outputs) for one in clips]
        assert np.mean(actual) > np.mean(own[: len(actual)])


def test_normal_scores_of_many_clips_leave_out_a_tenth_at_a_time() -> None:
    """A clip shares its fold with those ten further on."""
    clips = make_outputs({("00", "source"): 25, ("01", "source"): 25})
    scorings = make_scorings(
        "mahalanobis", SECTIONS, learn_normal_of("mahalanobis", clips, SECTIONS, RECIPE_4), RECIPE_4
    )

    first, second = normal_scores("mahalanobis", clips, [], scorings, RECIPE_4)

    fold = [clips[section + number] for section in (0, 25) for number in (0, 10, 20)]
    expected = [score_without(one, fold, clips, "mahalanobis") for one in fold[:3]]
    assert first[:3] == pytest.approx(expected)
    assert len(first) == len(second) == 25


def test_normal_scores_with_held_out_clips_are_theirs_alone() -> None:
    """Where clips were held out, each is scored by the model that all others made."""
    clips = make_outputs({("00", "source"): 9, ("01", "source"): 9})
    held_out = make_outputs({("00", "source"): 2, ("01", "source"): 1}, seed=1)
    scorings = make_scorings(
        "mahalanobis", SECTIONS, learn_normal_of("mahalanobis", clips, SECTIONS, RECIPE_4), RECIPE_4
    )

    scores = normal_scores("mahalanobis", clips, held_out, scorings, RECIPE_4)

    expected = [clip_score(scorings[one.clip.section], one.outputs) for one in held_out]
    assert scores == [expected[:2], expected[2:]]


def test_normal_scores_leave_out_the_only_clip_of_a_section() -> None:
    """What nobody else can teach has no score; the section takes its threshold from the others."""
    clips = make_outputs({("00", "source"): 9, ("01", "source"): 1})
    scorings = make_scorings(
        "mahalanobis", SECTIONS, learn_normal_of("mahalanobis", clips, SECTIONS, RECIPE_4), RECIPE_4
    )

    first, second = normal_scores("mahalanobis", clips, [], scorings, RECIPE_4)

    assert len(first) >= 8
    assert second == []


def test_normal_scores_are_as_many_as_the_daemon_would_give() -> None:
    """A clip of twice the windows of a score gives two scores, without overlap."""
    clips = make_outputs({("00", "source"): 5, ("01", "source"): 5})
    short = replace(RECIPE_4, scoring=replace(RECIPE_4.scoring, clip_windows=N_WINDOWS // 2))
    scorings = make_scorings(
        "mahalanobis", SECTIONS, learn_normal_of("mahalanobis", clips, SECTIONS, short), short
    )

    scores = normal_scores("mahalanobis", clips, [], scorings, short)

    assert [len(one) for one in scores] == [10, 10]
