"""A recipe: a TOML file with everything that decides what a training run makes.

`train.recipe.tables` describes the keys of its tables; ``train/recipes`` has a file for each
system.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from edgeasd.baseline.covariance import MahalanobisRecipe
from edgeasd.common.documents.reading import DocumentError, at_least, read_table
from edgeasd.common.errors import ConfigError
from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.model.document import ModelDocument, ScoringDocument, SectionDocument
from edgeasd.detect.windows import WindowSpec
from train.recipe.tables import (
    CLASSIFIERS,
    POOLINGS,
    AugmentationRecipe,
    LossRecipe,
    NearestRecipe,
    NetworkRecipe,
    OptimiserRecipe,
    ScoringRecipe,
    SimulatorRecipe,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything about a training run but its data."""

    name: str
    """Name of the system."""
    scoring: ScoringRecipe
    """The table ``[scoring]``."""
    seed: Annotated[int, at_least(0)] = 2021
    """Seed of the random numbers; seed, recipe, data and machine together determine the weights."""
    features: FeatureSpec = field(default_factory=FeatureSpec)
    """The table ``[features]``: geometry of the log-mel frames."""
    window: WindowSpec = field(default_factory=WindowSpec)
    """The table ``[window]``: geometry of the windows."""
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    """The table ``[network]``."""
    loss: LossRecipe = field(default_factory=LossRecipe)
    """The table ``[loss]``."""
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    """The table ``[augmentation]``."""
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    """The table ``[optimiser]``."""
    nearest: NearestRecipe = field(default_factory=NearestRecipe)
    """The table ``[nearest]``."""
    mahalanobis: MahalanobisRecipe = field(default_factory=MahalanobisRecipe)
    """The table ``[mahalanobis]``."""
    simulator: SimulatorRecipe | None = None
    """The table ``[simulator]``; where it is given, the recipe makes its own data."""

    @property
    def trains(self) -> bool:
        """Whether there are weights to train."""
        return self.network.kind != "statistics"

    @property
    def classifies(self) -> bool:
        """Whether the network learns to tell sections apart."""
        return self.network.kind in CLASSIFIERS and self.loss.classification > 0

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the weights depend on, but the number of epochs.

        A run may be continued for more epochs, and one network may be scored in several ways.  A
        key at its default counts as absent, so that a key that is added to the code later does not
        change the digests of old runs.
        """
        table = _settings(self)
        table.get("optimiser", {}).pop("epochs", None)
        for name in ("nearest", "mahalanobis"):
            table.pop(name, None)
        table["scoring"] = {"holdout": self.scoring.holdout}
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()

    def override(
        self, *, epochs: int | None = None, seed: int | None = None, scoring: str | None = None
    ) -> Recipe:
        """Return the recipe with the values that the command line gives.

        Raises:
            ConfigError: If they contradict the rest of the recipe; each line tells a mistake.
        """
        changed = dataclasses.replace(
            self,
            seed=self.seed if seed is None else seed,
            optimiser=dataclasses.replace(self.optimiser, epochs=epochs or self.optimiser.epochs),
            scoring=dataclasses.replace(self.scoring, method=scoring or self.scoring.method),
        )
        try:
            _check(changed)
        except DocumentError as exc:
            raise ConfigError(*(f"recipe {self.name}: {line}" for line in exc.lines)) from exc
        return changed

    def to_toml(self) -> str:
        """Return the recipe as a TOML document with all of its keys."""
        table = dataclasses.asdict(self)
        lines = [_line(key, value) for key, value in table.items() if _is_plain(value)]
        for name, inner in table.items():
            if isinstance(inner, dict):
                lines += ["", f"[{name}]", *(_line(key, value) for key, value in inner.items())]
        return "\n".join(lines) + "\n"


def load_recipe(path: Path) -> Recipe:
    """Read the recipe at *path*.

    Raises:
        ConfigError: If it cannot be read, is not TOML, or has keys or values that are wrong; each
            line names one.
    """
    try:
        recipe = read_table(Recipe, tomllib.loads(path.read_text(encoding="utf-8")))
        _check(recipe)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror})") from exc
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    except DocumentError as exc:
        raise ConfigError(*(f"{path}: {line}" for line in exc.lines)) from exc
    return recipe


def _check(recipe: Recipe) -> None:
    mistakes = [*_network_mistakes(recipe), *_loss_mistakes(recipe), *_other_mistakes(recipe)]
    try:
        # The geometry is checked as in a model file, before hours of training and not after them.
        _model_document(recipe).check()
    except DocumentError as exc:
        mistakes += exc.lines
    if mistakes:
        raise DocumentError(*mistakes)


def _network_mistakes(recipe: Recipe) -> Iterator[str]:
    network, method = recipe.network, recipe.scoring.method
    poolings = POOLINGS[network.kind]
    if network.pooling not in poolings:
        yield (
            f"network.pooling={network.pooling!r} must be {' or '.join(map(repr, poolings))} for "
            f"network.kind={network.kind!r}"
        )
    if network.width != 1.0 and network.kind != "mobilenet_v2":
        yield f"network.width={network.width} must be 1.0 for network.kind={network.kind!r}"
    if (method == "reconstruction") != (network.kind == "autoencoder"):
        yield (
            f"scoring.method={method!r} must be 'reconstruction' for network.kind='autoencoder', "
            "and for no other"
        )
    if method == "log_odds" and not recipe.classifies:
        yield (
            f"network.kind={network.kind!r} and loss.classification={recipe.loss.classification} "
            "must be a network that classifies and more than 0 for scoring.method='log_odds'"
        )


def _loss_mistakes(recipe: Recipe) -> Iterator[str]:
    kind, loss = recipe.network.kind, recipe.loss
    if kind in CLASSIFIERS and loss.classification == 0 and loss.contrastive == 0:
        yield "loss.classification=0.0 or loss.contrastive=0.0 must be more than 0"
    if kind == "autoencoder" and (loss.classification, loss.contrastive) != (0, 0):
        yield "loss.classification and loss.contrastive must be 0 for network.kind='autoencoder'"
    if kind == "autoencoder" and loss.reconstruction == 0:
        yield "loss.reconstruction=0.0 must be more than 0 for network.kind='autoencoder'"


def _other_mistakes(recipe: Recipe) -> Iterator[str]:
    if recipe.trains != (recipe.scoring.holdout > 0):
        yield (
            f"scoring.holdout={recipe.scoring.holdout} must be more than 0 for a network that is "
            "trained, and 0 for network.kind='statistics'"
        )
    for name in ("time_mask", "frame_shift"):
        value = getattr(recipe.augmentation, name)
        if value >= recipe.window.n_frames:
            yield (
                f"augmentation.{name}={value} must be less than "
                f"window.n_frames={recipe.window.n_frames}"
            )
    by_bins = recipe.mahalanobis.taper or recipe.mahalanobis.anomaly_prior
    if by_bins and (recipe.network.kind, recipe.network.pooling) != ("statistics", "average"):
        yield (
            "mahalanobis.taper and mahalanobis.anomaly_prior need an embedding of mel bins: "
            "network.kind='statistics' and network.pooling='average'"
        )


def _model_document(recipe: Recipe) -> ModelDocument:
    """Return a model document with the geometry of *recipe*; the rest of it is only valid."""
    return ModelDocument(
        id=recipe.name,
        version="",
        created="",
        machine_type="",
        features=recipe.features,
        window=recipe.window,
        scoring=ScoringDocument("log_odds"),
        sections=(SectionDocument("00", 0.0, 0.0), SectionDocument("01", 0.0, 0.0)),
    )


def _settings(table: Any) -> dict[str, Any]:
    """Return the keys of *table* that are not at their defaults, and those of the tables in it."""
    settings = {}
    for key in dataclasses.fields(table):
        value = getattr(table, key.name)
        if dataclasses.is_dataclass(value):
            settings[key.name] = _settings(value)
        elif value != key.default:
            settings[key.name] = value
    return settings


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _line(key: str, value: Any) -> str:
    # JSON and TOML write strings, numbers, true and false alike.
    return f"{key} = {json.dumps(value)}"
