"""The tables of a recipe: every key with its default, unit and rule."""

from __future__ import annotations

from dataclasses import dataclass, field

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

    kind: str = field(default="mobilenet_v2", metadata=one_of(*POOLINGS))
    """MobileNetV2, EfficientNet-B0, an autoencoder, or statistics of the window: no network."""
    width: float = field(default=1.0, metadata=between(0.1, 2.0))
    """Of MobileNetV2: multiplier of the number of channels."""
    pooling: str = field(
        default="average_max", metadata=one_of("", "average", "average_max", "average_std")
    )
    """Over time: mean, mean plus maximum (GAMP), or mean and standard deviation side by side."""
    standardise: bool = True
    """Whether each mel bin is scaled by its spread in training, not only shifted by its mean."""


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
class AugmentationRecipe:
    """Changes to the training windows, drawn anew for each batch."""

    mixup: float = field(default=0.0, metadata=at_least(0))
    """Parameter alpha of Mixup's beta distribution; 0 mixes nothing."""
    time_mask: int = field(default=0, metadata=at_least(0))
    """Most frames that are masked, in one piece."""
    frame_shift: int = field(default=0, metadata=at_least(0))
    """Most frames by which a window is rolled along time, either way."""


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
    """``log_odds``: Eq. 3.  ``nearest``, ``mahalanobis``: distance of the embedding to those of
    normal sound.  ``reconstruction``: the autoencoder's error."""
    clip_windows: int = field(default=31, metadata=between(1, 10_000))
    """Windows that a score rests on in the daemon; 31 are 10 s."""
    holdout: float = field(default=0.1, metadata=between(0.0, 0.5))
    """Part of each section's source training clips that only sets the threshold.  0 where nothing
    is trained: there each clip is scored by what the others teach."""
    tail_probability: float = field(default=0.001, metadata=between(1e-9, 0.5))
    """Probability that a score of normal sound is above the threshold."""


@dataclass(frozen=True, slots=True)
class NearestRecipe:
    """Cosine distance to the nearest reference, over the local density."""

    n_neighbours: int = field(default=1, metadata=at_least(1))
    """References that make the local density."""
    n_centroids: int = field(default=16, metadata=at_least(1))
    """References of the source domain in a section."""


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
