"""The tables of a recipe: every key with its default, unit and rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edgeasd.common.documents import at_least, between, one_of, rule

METHODS = ("log_odds", "nearest", "mahalanobis", "reconstruction")
CLASSIFIERS = ("mobilenet_v2", "efficientnet_b0")
POOLINGS = {
    "mobilenet_v2": ("average", "average_max"),
    "efficientnet_b0": ("average", "average_max"),
    "autoencoder": ("",),
    "statistics": ("average", "average_std"),
}

_POSITIVE = rule(lambda value: value > 0, "more than 0")


@dataclass(frozen=True, slots=True)
class NetworkRecipe:
    """The network that is kept: what the daemon runs."""

    kind: Annotated[str, one_of(*POOLINGS)] = "mobilenet_v2"
    """MobileNetV2, EfficientNet-B0, an autoencoder, or statistics of the window: no network."""
    width: Annotated[float, between(0.1, 2.0)] = 1.0
    """Of MobileNetV2: multiplier of the number of channels."""
    pooling: Annotated[str, one_of("", "average", "average_max", "average_std")] = "average_max"
    """Over time: mean, mean plus maximum (GAMP), or mean and standard deviation side by side."""
    standardise: bool = True
    """Whether each mel bin is scaled by its spread in training, not only shifted by its mean."""


@dataclass(frozen=True, slots=True)
class LossRecipe:
    """The terms of Eq. 5 and their weights; a weight of 0 leaves the term out."""

    reconstruction: Annotated[float, at_least(0)] = 1.0
    """Weight of the autoencoder's mean square error, Eq. 1."""
    classification: Annotated[float, at_least(0)] = 1.0
    """Weight of the section classifier's cross-entropy, Eq. 2."""
    contrastive: Annotated[float, at_least(0)] = 1.0
    """Weight of the contrastive loss, Eq. 4."""
    contrastive_form: Annotated[str, one_of("printed", "two_way")] = "printed"
    """As printed, or both directions with the positive pair in the denominator."""
    rho: Annotated[float, _POSITIVE] = 0.07
    """Temperature of the contrastive loss."""
    normalise: bool = True
    """Whether projections get length 1 before their inner product."""


@dataclass(frozen=True, slots=True)
class AugmentationRecipe:
    """Changes to the training windows, drawn anew for each batch."""

    mixup: Annotated[float, at_least(0)] = 0.0
    """Parameter alpha of Mixup's beta distribution; 0 mixes nothing."""
    time_mask: Annotated[int, at_least(0)] = 0
    """Most frames that are masked, in one piece."""
    frame_shift: Annotated[int, at_least(0)] = 0
    """Most frames by which a window is rolled along time, either way."""


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    """Adam with a learning rate that halves in steps."""

    epochs: Annotated[int, at_least(1)] = 100
    """Passes over the training windows."""
    batch_size: Annotated[int, at_least(2)] = 32
    """Windows in a step."""
    learning_rate: Annotated[float, _POSITIVE] = 1e-3
    """Of Adam, at the start."""
    halve_every: Annotated[int, at_least(1)] = 30
    """Epochs after which the learning rate halves, again and again."""


@dataclass(frozen=True, slots=True)
class ScoringRecipe:
    """How the network's output becomes a score, and a score an alarm."""

    method: Annotated[str, one_of(*METHODS)]
    """``log_odds``: Eq. 3.  ``nearest``, ``mahalanobis``: distance of the embedding to those of
    normal sound.  ``reconstruction``: the autoencoder's error."""
    clip_windows: Annotated[int, between(1, 10_000)] = 31
    """Windows that a score rests on in the daemon; 31 are 10 s."""
    holdout: Annotated[float, between(0.0, 0.5)] = 0.1
    """Part of each section's source training clips that only sets the threshold.  0 where nothing
    is trained: there each clip is scored by what the others teach."""
    tail_probability: Annotated[float, between(1e-9, 0.5)] = 0.001
    """Probability that a score of normal sound is above the threshold."""


@dataclass(frozen=True, slots=True)
class NearestRecipe:
    """Cosine distance to the nearest reference, over the local density."""

    n_neighbours: Annotated[int, at_least(1)] = 1
    """References that make the local density."""
    n_centroids: Annotated[int, at_least(1)] = 16
    """References of the source domain in a section."""


@dataclass(frozen=True, slots=True)
class SimulatorRecipe:
    """Clips of the simulated machine, made where no recordings are given.

    Sections are machines of different design; a clip is 10 s.
    """

    n_sections: Annotated[int, between(1, 4)] = 4
    """Machines."""
    n_train: Annotated[int, at_least(4)] = 40
    """Training clips of a section."""
    n_test: Annotated[int, at_least(1)] = 10
    """Test clips of a section, healthy, and as many of a worn bearing."""
