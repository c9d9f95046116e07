from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeasd.common.errors import EdgeasdError
from tests.train.toy import RECIPE, write_clip
from train.data.clips import Clip
from train.data.split import choose_held_out, load_training_data


def test_choose_held_out_takes_a_part_of_each_sections_source_clips() -> None:
    """Held out are clips of the source domain, a tenth of each section, at least two of ten."""
    clips = [*_clips("00", "source", 50), *_clips("01", "source", 10), *_clips("00", "target", 10)]

    held_out = choose_held_out(clips, 0.1, seed=1)

    assert {clip.domain for clip in held_out} == {"source"}
    assert sum(clip.section == "00" for clip in held_out) == 5
    assert sum(clip.section == "01" for clip in held_out) == 2


def test_choose_held_out_never_takes_the_last_clip() -> None:
    """Small sections give what they can spare, and keep one clip to train on."""
    assert choose_held_out(_clips("00", "source", 1), 0.5, seed=1) == set()
    assert len(choose_held_out(_clips("00", "source", 2), 0.5, seed=1)) == 1


def test_choose_held_out_depends_on_seed_and_not_on_order() -> None:
    """The choice is the same for the same clips and seed, whatever their order."""
    clips = _clips("00", "source", 40)

    chosen = choose_held_out(clips, 0.1, seed=1)

    assert choose_held_out(clips[::-1], 0.1, seed=1) == chosen
    assert choose_held_out(clips, 0.1, seed=2) != chosen


def test_load_training_data_keeps_held_out_clips_and_test_clips_apart(toy_data: Path) -> None:
    """Fitted and held-out clips are disjoint, and together all training clips."""
    data = load_training_data(toy_data, RECIPE)

    fitted = {one.clip.path for one in data.fitted}
    held_out = {one.clip.path for one in data.held_out}
    assert not fitted & held_out
    assert fitted | held_out == set((toy_data / "train").iterdir())
    assert len(held_out) == 4
    assert (data.machine_type, data.sections) == ("toy_fan", ["00", "01"])


def test_load_training_data_of_one_section_refuses_a_classifier(tmp_path: Path) -> None:
    """One section cannot be told from another, and the message says what to do."""
    (tmp_path / "train").mkdir()
    write_clip(tmp_path / "train" / "section_00_source_train_normal_0000.wav", seed=0)

    with pytest.raises(EdgeasdError) as error:
        load_training_data(tmp_path, RECIPE)

    assert str(error.value) == (
        "sections=00 must be at least two, because a classifier of one section learns nothing; "
        "give recordings of other machines with --background, or use recipe edge, which needs none"
    )


def test_load_training_data_of_one_section_allows_training_without_classifier(
    tmp_path: Path,
) -> None:
    """The autoencoder and the contrastive loss alone need no second section."""
    (tmp_path / "train").mkdir()
    for number in range(2):
        name = f"section_00_source_train_normal_{number:04d}.wav"
        write_clip(tmp_path / "train" / name, seed=number)
    recipe = replace(RECIPE, loss=replace(RECIPE.loss, classification=0.0))

    assert load_training_data(tmp_path, recipe).sections == ["00"]


def test_load_training_data_without_training_clips_says_so(tmp_path: Path) -> None:
    """Test clips alone cannot be trained on."""
    (tmp_path / "source_test").mkdir()
    write_clip(tmp_path / "source_test" / "section_00_source_test_normal_0000.wav", seed=0)

    with pytest.raises(EdgeasdError, match=r"holds no training clips, only clips for testing$"):
        load_training_data(tmp_path, RECIPE)


def _clips(section: str, domain: str, n_clips: int) -> list[Clip]:
    names = (f"section_{section}_{domain}_train_normal_{i:04d}.wav" for i in range(n_clips))
    return [Clip(Path(name), "fan", section, domain, "train", "normal") for name in names]
