"""A recipe: all that decides what a training run makes, in one TOML file.

Every key has its default, unit and rule here; ``recipes/`` has one file for each system.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeasd.detect.features import FeatureSpec
from edgeasd.detect.metadata import ModelDocument, ScoringDocument, SectionDocument
from edgeasd.detect.windows import WindowSpec
from edgeasd.document import DocumentError, at_least, between, one_of, read_table, rule
from edgeasd.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

METHODS = ("log_odds", "nearest")

_POSITIVE = rule(lambda value: value > 0, "more than 0")


@dataclass(frozen=True, slots=True)
class NetworkRecipe:
    """The network that is kept: MobileNetV2."""

    width: float = field(default=1.0, metadata=between(0.1, 2.0))
    """Multiplier of the number of channels."""
    pooling: str = field(default="average_max", metadata=one_of("average", "average_max"))
    """Over time: mean, or mean plus maximum (GAMP)."""


@dataclass(frozen=True, slots=True)
class LossRecipe:
    """The terms of Eq. 5 and their weights; a weight of 0 leaves the term out."""

    reconstruction: float = field(default=1.0, metadata=at_least(0))
    """Weight of the autoencoder's mean square error, Eq. 1."""
    classification: float = field(default=1.0, metadata=at_least(0))
    """Weight of the section classifier's cross-entropy, Eq. 2."""
    contrastive: float = field(default=1.0, metadata=at_least(0))
    """Weight of the contrastive loss, Eq. 4."""
    contrastive_form: str = field(default="printed", metadata=one_of("printed", "two_way"))
    """As printed, or both directions with the positive pair in the denominator."""
    rho: float = field(default=0.07, metadata=_POSITIVE)
    """Temperature of the contrastive loss."""
    normalise: bool = True
    """Whether projections get length 1 before their inner product."""


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    """Adam with a learning rate that halves in steps."""

    epochs: int = field(default=100, metadata=at_least(1))
    """Passes over the training windows."""
    batch_size: int = field(default=32, metadata=at_least(2))
    """Windows in a step."""
    learning_rate: float = field(default=1e-3, metadata=_POSITIVE)
    """Of Adam, at the start."""
    halve_every: int = field(default=30, metadata=at_least(1))
    """Epochs after which the learning rate halves, again and again."""


@dataclass(frozen=True, slots=True)
class ScoringRecipe:
    """How the network's output becomes a score, and a score an alarm."""

    method: str = field(metadata=one_of(*METHODS))
    """``log_odds``: Eq. 3.  ``nearest``: distance of the embedding to those of normal sound."""
    clip_windows: int = field(default=31, metadata=between(1, 10_000))
    """Windows that a score rests on in the daemon; 31 are 10 s."""
    n_neighbours: int = field(default=1, metadata=at_least(1))
    """For ``nearest``: references that make the local density."""
    n_centroids: int = field(default=16, metadata=at_least(1))
    """For ``nearest``: references of the source domain in a section."""
    holdout: float = field(default=0.1, metadata=between(0.01, 0.5))
    """Part of each section's source training clips that only sets the threshold."""
    tail_probability: float = field(default=0.001, metadata=between(1e-9, 0.5))
    """Probability that a score of normal sound is above the threshold."""


@dataclass(frozen=True, slots=True)
class SimulatorRecipe:
    """Clips of the simulated machine, made where no recordings are given.

    Sections are machines of different design; a clip is 10 s.
    """

    n_sections: int = field(default=4, metadata=between(1, 4))
    """Machines."""
    n_train: int = field(default=40, metadata=at_least(4))
    """Training clips of a section."""
    n_test: int = field(default=10, metadata=at_least(1))
    """Test clips of a section, healthy, and as many of a worn bearing."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole training run but for its data."""

    name: str
    """Name of the system."""
    scoring: ScoringRecipe
    """The table ``[scoring]``."""
    seed: int = field(default=2021, metadata=at_least(0))
    """Same seed, same recipe, same data and same machine: same weights."""
    features: FeatureSpec = field(default_factory=FeatureSpec)
    """The table ``[features]``: geometry of the log-mel frames."""
    window: WindowSpec = field(default_factory=WindowSpec)
    """The table ``[window]``: geometry of the windows."""
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    """The table ``[network]``."""
    loss: LossRecipe = field(default_factory=LossRecipe)
    """The table ``[loss]``."""
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    """The table ``[optimiser]``."""
    simulator: SimulatorRecipe | None = None
    """The table ``[simulator]``: where given, the recipe makes its own data."""

    @property
    def digest(self) -> str:
        """SHA-256 of all but the number of epochs, which more epochs may follow."""
        table = dataclasses.asdict(self)
        del table["optimiser"]["epochs"]
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()

    def override(
        self, *, epochs: int | None = None, seed: int | None = None, scoring: str | None = None
    ) -> Recipe:
        """Return the recipe with what the command line says instead.

        Raises:
            ConfigError: If the recipe does not go with it.
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
            raise ConfigError(f"recipe {self.name}: {exc}") from exc
        return changed

    def to_toml(self) -> str:
        """Return the recipe as a TOML document, every key of it."""
        table = dataclasses.asdict(self)
        lines = [_line(key, value) for key, value in table.items() if _is_plain(value)]
        for name, inner in table.items():
            if isinstance(inner, dict):
                lines += ["", f"[{name}]", *(_line(key, value) for key, value in inner.items())]
        return "\n".join(lines) + "\n"


def load_recipe(path: Path) -> Recipe:
    """Read the recipe at *path*.

    Raises:
        ConfigError: If it cannot be read, is not TOML, or has a key or value that is wrong.
    """
    try:
        recipe = read_table(Recipe, tomllib.loads(path.read_text(encoding="utf-8")))
        _check(recipe)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read ({exc.strerror})") from exc
    except (ValueError, DocumentError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return recipe


def _check(recipe: Recipe) -> None:
    loss = recipe.loss
    if loss.classification == 0 and recipe.scoring.method == "log_odds":
        raise DocumentError(
            "loss.classification=0.0 must be more than 0 for scoring.method='log_odds'"
        )
    if loss.classification == 0 and loss.contrastive == 0:
        raise DocumentError("loss.classification=0.0 or loss.contrastive=0.0 must be more than 0")
    # The model file's own check of the geometry, before the hours of training and not after.
    ModelDocument(
        id=recipe.name,
        version="",
        created="",
        machine_type="",
        features=recipe.features,
        window=recipe.window,
        scoring=ScoringDocument("log_odds"),
        sections=(SectionDocument("00", 0.0, 0.0), SectionDocument("01", 0.0, 0.0)),
    ).check()


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _line(key: str, value: Any) -> str:
    # JSON and TOML write strings, numbers, true and false alike.
    return f"{key} = {json.dumps(value)}"
