from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeasd.baseline.covariance import MahalanobisRecipe
from edgeasd.common.errors import ConfigError
from tests.train.toy import RECIPE
from train.recipe.recipe import Recipe, load_recipe
from train.recipe.tables import (
    AugmentationRecipe,
    LossRecipe,
    OptimiserRecipe,
    ScoringRecipe,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = sorted((Path(__file__).parents[3] / "train" / "recipes").glob("*.toml"))
AUTOENCODER = 'name = "x"\n[scoring]\nmethod = "reconstruction"\n[network]\nkind = "autoencoder"\n'
_TABLES = {key.name for key in dataclasses.fields(Recipe)} - {"name", "seed"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_is_named_as_its_file(path: Path) -> None:
    """Every recipe that comes with the trainer can be read."""
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_shows_every_key_with_a_comment(path: Path) -> None:
    """A recipe reads on its own: no key that matters is left to its default, each is explained."""
    recipe = load_recipe(path)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()

    shown = {key: set(value) for key, value in tomllib.loads(text).items() if key in _TABLES}
    assert shown == {name: _keys(recipe, name) for name in {*shown, *_needed_tables(recipe)}}
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
    for recipe in (RECIPE, *map(load_recipe, SHIPPED)):
        path.write_text(recipe.to_toml(), encoding="utf-8")

        assert load_recipe(path) == recipe


def test_digest_leaves_out_epochs_and_scoring() -> None:
    """A run may be continued for more epochs and scored anew; other changes make another run."""
    scoring = dataclasses.replace(RECIPE.scoring, method="log_odds", tail_probability=0.01)
    nearest = dataclasses.replace(RECIPE.nearest, n_neighbours=3)
    mahalanobis = MahalanobisRecipe(covariance="diagonal")
    same: list[dict[str, Any]] = [
        {"scoring": scoring}, {"nearest": nearest}, {"mahalanobis": mahalanobis},
    ]  # fmt: skip
    other: list[dict[str, Any]] = [
        {"seed": 9},
        {"network": dataclasses.replace(RECIPE.network, standardise=False)},
        {"augmentation": AugmentationRecipe(mixup=0.2)},
        {"scoring": dataclasses.replace(RECIPE.scoring, holdout=0.2)},
    ]

    assert RECIPE.override(epochs=9).digest == RECIPE.digest
    for change in same:
        assert dataclasses.replace(RECIPE, **change).digest == RECIPE.digest
    digests = {dataclasses.replace(RECIPE, **change).digest for change in other}
    assert len(digests - {RECIPE.digest}) == len(other)


def test_digest_is_not_changed_by_a_key_that_comes_later() -> None:
    """A new key at its default leaves old runs what they were."""

    @dataclasses.dataclass(frozen=True)
    class LaterRecipe(Recipe):
        warmup: int = 0

    old = {key.name: getattr(RECIPE, key.name) for key in dataclasses.fields(RECIPE)}

    assert LaterRecipe(**old).digest == RECIPE.digest
    assert LaterRecipe(**old, warmup=1).digest != RECIPE.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\n[scoring]\nmethod = "nearest"\nholdot = 0.1',
         "unknown key 'scoring.holdot'; did you mean 'holdout'?"),
        ('name = "x"\n[scoring]\nmethod = "softmax"',
         "scoring.method='softmax' must be one of log_odds, nearest, mahalanobis, reconstruction"),
        ('name = "x"', "scoring is missing"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[optimiser]\nepochs = 0',
         "optimiser.epochs=0 must be at least 1"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[window]\nmedian_frames = 30',
         "window.median_frames=30 must be one less than a power of two"),
        ('name = "x"\n[scoring]\nmethod = "log_odds"\n[loss]\nclassification = 0',
         "network.kind='mobilenet_v2' and loss.classification=0.0 must be a network that "
         "classifies and more than 0 for scoring.method='log_odds'"),
        ('name = "x"\n[scoring]\nmethod = "log_odds"\n'
         '[network]\nkind = "statistics"\npooling = "average"',
         "network.kind='statistics' and loss.classification=1.0 must be a network that "
         "classifies and more than 0 for scoring.method='log_odds'\n"
         "scoring.holdout=0.1 must be more than 0 for a network that is trained, and 0 for "
         "network.kind='statistics'"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[loss]\nclassification = 0\ncontrastive = 0',
         "loss.classification=0.0 or loss.contrastive=0.0 must be more than 0"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[network]\nkind = "resnet"',
         "network.kind='resnet' must be one of mobilenet_v2, efficientnet_b0, autoencoder, "
         "statistics"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[network]\npooling = "average_std"',
         "network.pooling='average_std' must be 'average' or 'average_max' for "
         "network.kind='mobilenet_v2'"),
        (f'{AUTOENCODER}pooling = "average"',
         "network.pooling='average' must be '' for network.kind='autoencoder'\n"
         "loss.classification and loss.contrastive must be 0 for network.kind='autoencoder'"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n'
         '[network]\nkind = "efficientnet_b0"\nwidth = 0.5',
         "network.width=0.5 must be 1.0 for network.kind='efficientnet_b0'"),
        ('name = "x"\n[scoring]\nmethod = "reconstruction"',
         "scoring.method='reconstruction' must be 'reconstruction' for "
         "network.kind='autoencoder', and for no other"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[network]\nkind = "autoencoder"\npooling = ""',
         "scoring.method='nearest' must be 'reconstruction' for network.kind='autoencoder', "
         "and for no other\n"
         "loss.classification and loss.contrastive must be 0 for network.kind='autoencoder'"),
        (f'{AUTOENCODER}pooling = ""',
         "loss.classification and loss.contrastive must be 0 for network.kind='autoencoder'"),
        (f'{AUTOENCODER}pooling = ""\n'
         '[loss]\nreconstruction = 0\nclassification = 0\ncontrastive = 0',
         "loss.reconstruction=0.0 must be more than 0 for network.kind='autoencoder'"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[augmentation]\ntime_mask = 64',
         "augmentation.time_mask=64 must be less than window.n_frames=64"),
        ('name = "x"\n[scoring]\nmethod = "nearest"\n[augmentation]\nmixup = -1',
         "augmentation.mixup=-1 must be at least 0"),
    ],
)  # fmt: skip
def test_load_recipe_names_the_mistake(text: str, message: str, tmp_path: Path) -> None:
    """Each wrong key or value is refused before any training, with file, name and rule."""
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert caught.value.lines == tuple(f"{path}: {line}" for line in message.splitlines())


def test_override_is_checked_as_the_file_is() -> None:
    """What the command line says instead cannot make a recipe that would be refused."""
    recipe = dataclasses.replace(RECIPE, loss=LossRecipe(classification=0.0))

    with pytest.raises(ConfigError, match=r"^recipe toy: network\.kind='mobilenet_v2' and loss"):
        recipe.override(scoring="log_odds")


def test_load_recipe_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")


def _needed_tables(recipe: Recipe) -> set[str]:
    """Return the tables that a recipe must show, whether or not they are at their defaults."""
    tables = {"features", "window", "network", "scoring"}
    trained = {"loss", "optimiser"} if recipe.trains else set()
    return tables | trained | ({recipe.scoring.method} & _TABLES)


def _keys(recipe: Recipe, table: str) -> set[str]:
    """Return the keys of a table that apply to the recipe's network."""
    keys = {key.name for key in dataclasses.fields(getattr(recipe, table))}
    return keys if recipe.network.kind == "mobilenet_v2" else keys - {"width"}
