from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from edgeasd.errors import ConfigError
from tests.train.toy import RECIPE
from train.recipe import LossRecipe, OptimiserRecipe, Recipe, ScoringRecipe, load_recipe

SHIPPED = sorted((Path(__file__).parents[2] / "train" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_is_named_as_its_file(path: Path) -> None:
    """Every recipe that comes with the trainer can be read."""
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_shows_every_key_with_a_comment(path: Path) -> None:
    """A recipe reads on its own: no key is left to its default, and each is explained."""
    shown = _plain_keys(dataclasses.asdict(load_recipe(path)))
    lines = path.read_text(encoding="utf-8").splitlines()

    keys = [line.split(" = ")[0] for line in lines if " = " in line]
    assert sorted(keys) == sorted(shown)
    for before, line in itertools.pairwise(lines):
        if " = " in line and not line.startswith(("name", "seed")):
            assert "  # " in line or before.startswith("#"), line


def test_recipe_of_the_paper_has_its_figures() -> None:
    """The paper's system: 100 epochs halving every 30, batch 32, rho 0.07, 31 frames, 1 : 1 : 1."""
    recipe = load_recipe(next(path for path in SHIPPED if path.stem == "mbv2-cl-mf"))

    assert recipe == Recipe(
        name="mbv2-cl-mf",
        scoring=ScoringRecipe("log_odds"),
        optimiser=OptimiserRecipe(100, 32, 1e-3, 30),
    )


def test_to_toml_reads_back_equal(tmp_path: Path) -> None:
    """The effective recipe in a run's folder is the recipe of the run."""
    path = tmp_path / "recipe.toml"
    for recipe in (RECIPE, load_recipe(SHIPPED[0])):
        path.write_text(recipe.to_toml(), encoding="utf-8")

        assert load_recipe(path) == recipe


def test_digest_leaves_out_the_number_of_epochs_only() -> None:
    """A run may be continued for more epochs; any other change makes it another run."""
    assert RECIPE.override(epochs=9).digest == RECIPE.digest
    assert RECIPE.override(seed=9).digest != RECIPE.digest
    assert RECIPE.override(scoring="log_odds").digest != RECIPE.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\n[scoring]\nmethod = "nearest"\nholdot = 0.1',
         "unknown key 'scoring.holdot'; did you mean 'holdout'?"),
        ('name = "x"\n[scoring]\nmethod = "softmax"',
         "scoring.method='softmax' must be one of log_odds, nearest"),
        ('name = "x"', "scoring is missing"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[optimiser]\nepochs = 0',
         "optimiser.epochs=0 must be at least 1"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[window]\nmedian_frames = 30',
         "window.median_frames=30 must be one less than a power of two"),
        ('name = "x"\n[scoring]\nmethod = "log_odds"\n[loss]\nclassification = 0',
         "loss.classification=0.0 must be more than 0 for scoring.method='log_odds'"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[loss]\nclassification = 0\ncontrastive = 0',
         "loss.classification=0.0 or loss.contrastive=0.0 must be more than 0"),
    ],
)  # fmt: skip
def test_load_recipe_names_the_mistake(text: str, message: str, tmp_path: Path) -> None:
    """A wrong key or value is refused before any training, with file, name and rule."""
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=f"^{re.escape(f'{path}: {message}')}$"):
        load_recipe(path)


def test_override_is_checked_as_the_file_is() -> None:
    """What the command line says instead cannot make a recipe that would be refused."""
    recipe = dataclasses.replace(RECIPE, loss=LossRecipe(classification=0.0))

    with pytest.raises(ConfigError, match=r"^recipe toy: loss\.classification=0\.0 must be more"):
        recipe.override(scoring="log_odds")


def test_load_recipe_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")


def _plain_keys(table: dict[str, object]) -> list[str]:
    """Return the names of the plain values of nested tables."""
    keys = []
    for key, value in table.items():
        if isinstance(value, dict):
            keys += _plain_keys(value)
        elif value is not None:
            keys.append(key)
    return keys
