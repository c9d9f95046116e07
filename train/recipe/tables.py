"""The tables of a recipe: each key with its type, default, rule and description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edgeasd.common.documents.reading import at_least, between, one_of, rule
from edgeasd.detect.model.document import METHODS

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
    """The network that the daemon will run."""

    kind: Annotated[str, one_of(*POOLINGS)] = "mobilenet_v2"
    """MobileNetV2, EfficientNet-B0, an autoencoder, or no network but statistics of the window."""
    width: Annotated[float, between(0.1, 2.0)] = 1.0
    """Multiplier of the number of channels of MobileNetV2."""
    pooling: Annotated[str, one_of("", "average", "average_max", "average_std")] = "average_max"
    """Pooling over time: mean, mean plus maximum (GAMP), or mean and standard deviation side by
    side."""
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
    """Contrastive loss as printed, or in both directions with the positive pair in the
    denominator."""
    rho: Annotated[float, _POSITIVE] = 0.07
    """Temperature of the contrastive loss."""
    normalise: bool = True
    """Whether projections are scaled to length 1 before their inner product."""


@dataclass(frozen=True, slots=True)
class AugmentationRecipe:
    """Random changes to the training windows, drawn for each batch."""

    mixup: Annotated[float, at_least(0)] = 0.0
    """Parameter alpha of Mixup's beta distribution; 0 mixes nothing."""
    time_mask: Annotated[int, at_least(0)] = 0
    """Largest number of consecutive frames that are masked."""
    frame_shift: Annotated[int, at_least(0)] = 0
    """Largest number of frames by which a window is rolled along time, in either direction."""


@dataclass(frozen=True, slots=True)
class OptimiserRecipe:
    """Adam, with a learning rate that is halved in steps."""

    epochs: Annotated[int, at_least(1)] = 100
    """Passes over the training windows."""
    batch_size: Annotated[int, at_least(2)] = 32
    """Windows in a training step."""
    learning_rate: Annotated[float, _POSITIVE] = 1e-3
    """Learning rate of Adam at the start."""
    halve_every: Annotated[int, at_least(1)] = 30
    """Epochs between two halvings of the learning rate."""


@dataclass(frozen=True, slots=True)
class ScoringRecipe:
    """How the network's output becomes a score, and a score an alarm."""

    method: Annotated[str, one_of(*METHODS)]
    """``log_odds``: Eq. 3.  ``nearest``, ``mahalanobis``: distance of the embedding to those of
    normal sound.  ``reconstruction``: the autoencoder's error."""
    clip_windows: Annotated[int, between(1, 10_000)] = 31
    """Windows that a score of the daemon rests on; 31 of them are 10 s."""
    holdout: Annotated[float, between(0.0, 0.5)] = 0.1
    """Fraction of the source training clips of each section that is kept back to set the threshold.
    It is 0 where nothing is trained, as each clip is then scored by what the others teach."""
    tail_probability: Annotated[float, between(1e-9, 0.5)] = 0.001
    """Probability that a score of normal sound is above the threshold."""


@dataclass(frozen=True, slots=True)
class NearestRecipe:
    """Cosine distance to the nearest reference, over the local density."""

    n_neighbours: Annotated[int, at_least(1)] = 1
    """References from which the local density is estimated."""
    n_centroids: Annotated[int, at_least(1)] = 16
    """References of the source domain in each section."""


@dataclass(frozen=True, slots=True)
class SimulatorRecipe:
    """Clips of the simulated machine, made where no recordings are given.

    Each section is a machine of another design; a clip has 10 s.
    """

    n_sections: Annotated[int, between(1, 4)] = 4
    """Number of simulated machines."""
    n_train: Annotated[int, at_least(4)] = 40
    """Training clips of each section."""
    n_test: Annotated[int, at_least(1)] = 10
    """Test clips of each section with a healthy bearing, and as many with a worn one."""
