"""The networks that are trained together, and the one of them that is kept.

The network that is kept takes windows in dB, shape ``(B, 1, T, M)``, and returns an embedding and,
if it classifies, logits.  These are the inputs and outputs of the graph that the daemon runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

_BOTTLENECK = 8
_HIDDEN = 128
_PROJECTION = 256
_LEAST_STD_DB = 0.1
"""Least standard deviation of a mel bin, so that a bin that barely varies in training cannot
dominate the input later."""


class Standardise(nn.Module):
    """Shifts and scales each mel bin by its mean and standard deviation in training.

    It is part of the network, so that the exported graph takes windows in dB.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))

    def learn(self, rows: Tensor, *, scale: bool) -> None:
        """Store the mean of *rows*, ``(n_rows, n_mels)``, dB, and if *scale*, their deviation."""
        std, mean = torch.std_mean(rows.double(), dim=0)
        self.mean.copy_(mean)
        if scale:
            self.std.copy_(std.clamp(min=_LEAST_STD_DB))

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return *log_mel*, shape ``(..., n_mels)``, standardised."""
        return (log_mel - self.mean) / self.std


def average_pool(features: Tensor) -> Tensor:
    """Return the mean over time and frequency: ``(B, C, T, M)`` to ``(B, C)``."""
    return features.mean(dim=(2, 3))


def average_max_pool(features: Tensor) -> Tensor:
    """Return the mean over frequency, then mean plus maximum over time (GAMP).

    It uses no adaptive pooling, which does not export well.

    Args:
        features: Shape ``(B, C, T, M)``.

    Returns:
        Shape ``(B, C)``.
    """
    over_time = features.mean(dim=3)  # (B, C, T)
    return over_time.mean(dim=2) + over_time.amax(dim=2)


_POOLING = {"average": average_pool, "average_max": average_max_pool}


class SectionNet(nn.Module):
    """A convolutional network that classifies sections.

    It is torchvision's network with one input channel, the pooling of the paper, and one linear
    layer as classifier.

    Args:
        n_mels: Number of mel bins of the input.
        n_sections: Number of sections of the machine.
        kind: ``mobilenet_v2`` or ``efficientnet_b0``.
        width: Multiplier of MobileNetV2's channels.  The embedding has 1280 dimensions up to width
            1, and with EfficientNet-B0.
        pooling: ``average`` or ``average_max``.
        n_others: Number of further classes in training, which are not used for scores.
    """

    def __init__(
        self,
        n_mels: int,
        n_sections: int,
        *,
        kind: str,
        width: float,
        pooling: str,
        n_others: int = 0,
    ) -> None:
        super().__init__()
        self.standardise = Standardise(n_mels)
        self.features = _backbone(kind, width)
        self.pool = _POOLING[pooling]
        self.n_dims = cast("int", self.features[-1].out_channels)
        self.classifier = nn.Linear(self.n_dims, n_sections + n_others)
        self._n_sections = n_sections

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """Return embedding ``(B, n_dims)`` and logits ``(B, n_sections)``."""
        embedding, logits = self.embed(self.standardise(log_mel))
        return embedding, logits[:, : self._n_sections]

    def embed(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Return embedding and logits of all classes for standardised windows."""
        embedding = self.pool(self.features(window))  # (B, n_dims)
        return embedding, self.classifier(embedding)


def _backbone(kind: str, width: float) -> nn.Sequential:
    """Return torchvision's convolutional layers for one input channel, untrained."""
    if kind == "mobilenet_v2":
        layers = torchvision.models.mobilenet_v2(weights=None, width_mult=width).features
    else:
        layers = torchvision.models.efficientnet_b0(weights=None).features
    first = layers[0][0]
    mono = nn.Conv2d(1, first.out_channels, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(mono.weight, mode="fan_out")  # as torchvision's own layers
    layers[0][0] = mono
    assert isinstance(layers, nn.Sequential)
    return layers


class Statistics(nn.Module):
    """Mean of each mel bin over time, and optionally its standard deviation; has no weights.

    Args:
        n_mels: Number of mel bins of the input.
        pooling: ``average`` or ``average_std``.
    """

    def __init__(self, n_mels: int, pooling: str) -> None:
        super().__init__()
        self.standardise = Standardise(n_mels)
        self._has_std = pooling == "average_std"

    def forward(self, log_mel: Tensor) -> tuple[Tensor, None]:
        """Return the embedding ``(B, M)`` or ``(B, 2 M)``, and no logits."""
        window = self.standardise(log_mel).squeeze(1)  # (B, T, M)
        mean = window.mean(dim=1)
        if not self._has_std:
            return mean, None
        deviation = window - mean.unsqueeze(1)
        return torch.cat((mean, deviation.square().mean(dim=1).sqrt()), dim=1), None


class Autoencoder(nn.Module):
    """The autoencoder of the DCASE baseline on whole windows (Cai et al., Eq. 1 and section 3).

    Every layer but the last is followed by batch normalisation and ReLU, also the bottleneck of 8,
    as in the published code of the baseline.

    Args:
        n_inputs: Number of values of a window, ``T * M``.
    """

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        sizes = [n_inputs, *[_HIDDEN] * 4, _BOTTLENECK]
        self.encoder = nn.Sequential(*map(_dense, sizes, sizes[1:]))
        sizes = [_BOTTLENECK, *[_HIDDEN] * 4]
        self.decoder = nn.Sequential(*map(_dense, sizes, sizes[1:]), nn.Linear(_HIDDEN, n_inputs))

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bottleneck ``(B, 8)`` and the reconstruction ``(B, n_inputs)``."""
        bottleneck = self.encoder(window)
        return bottleneck, self.decoder(bottleneck)


class ReconstructionNet(nn.Module):
    """The autoencoder alone; its embedding is the reconstruction error, which is also the score.

    Args:
        n_frames: Number of frames of a window.
        n_mels: Number of mel bins of the input.
    """

    def __init__(self, n_frames: int, n_mels: int) -> None:
        super().__init__()
        self.standardise = Standardise(n_mels)
        self.autoencoder = Autoencoder(n_frames * n_mels)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, None]:
        """Return the mean square error of each window, shape ``(B, 1)``, and no logits."""
        window = self.standardise(log_mel).flatten(start_dim=1)  # (B, T * M)
        _, reconstructed = self.autoencoder(window)
        return (reconstructed - window).square().mean(dim=1, keepdim=True), None


Network = SectionNet | ReconstructionNet | Statistics
"""A network that is kept."""


def _dense(n_in: int, n_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU())


class Projection(nn.Module):
    """Projects both views into one space: a linear layer each, then a shared MLP (Cai et al., 2.3).

    Args:
        n_dims: Number of dimensions of the CNN's embedding.
        normalise: Whether projections are scaled to length 1; without it the inner products
            divided by the temperature soon overflow.
    """

    def __init__(self, n_dims: int, *, normalise: bool) -> None:
        super().__init__()
        self.from_embedding = nn.Linear(n_dims, _PROJECTION)
        self.from_bottleneck = nn.Linear(_BOTTLENECK, _PROJECTION)
        self.shared = nn.Sequential(
            nn.Linear(_PROJECTION, _PROJECTION), nn.ReLU(), nn.Linear(_PROJECTION, _PROJECTION)
        )
        self.normalise = normalise

    def forward(self, embedding: Tensor, bottleneck: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and p of Eq. 4, each of shape ``(B, 256)``."""
        u = self.shared(self.from_embedding(embedding))
        p = self.shared(self.from_bottleneck(bottleneck))
        return (F.normalize(u), F.normalize(p)) if self.normalise else (u, p)


@dataclass(frozen=True, slots=True, eq=False)
class JointOutput:
    """Output of the networks for a batch of windows.

    Attributes:
        window: Standardised windows, flattened, shape ``(B, T * M)``.
        logits: Logits, shape ``(B, n_sections)``; `None` without a classifier.
        reconstructed: Reconstruction, shape ``(B, T * M)``; `None` without an autoencoder.
        projections: u and p of Eq. 4; `None` unless there are both networks.
    """

    window: Tensor
    logits: Tensor | None = None
    reconstructed: Tensor | None = None
    projections: tuple[Tensor, Tensor] | None = None


class JointModel(nn.Module):
    """All networks that are trained together; only `network` is used afterwards.

    Args:
        network: Network to keep.
        n_inputs: Number of values of a window, for an autoencoder beside a `SectionNet`; 0 for no
            autoencoder.
        normalise: Whether projections are scaled to length 1; see `Projection`.
    """

    def __init__(
        self, network: SectionNet | ReconstructionNet, n_inputs: int, *, normalise: bool
    ) -> None:
        super().__init__()
        self.network = network
        if isinstance(network, SectionNet) and n_inputs:
            self.autoencoder = Autoencoder(n_inputs)
            self.projection = Projection(network.n_dims, normalise=normalise)

    def forward(self, log_mel: Tensor) -> JointOutput:
        """Return the outputs for windows in dB, shape ``(B, 1, T, M)``."""
        window = self.network.standardise(log_mel)
        flat = window.flatten(start_dim=1)  # (B, T * M)
        if isinstance(self.network, ReconstructionNet):
            _, reconstructed = self.network.autoencoder(flat)
            return JointOutput(flat, reconstructed=reconstructed.float())
        embedding, logits = self.network.embed(window)
        if not hasattr(self, "autoencoder"):
            return JointOutput(flat, logits.float())
        bottleneck, reconstructed = self.autoencoder(flat)
        u, p = self.projection(embedding, bottleneck)
        # The losses are computed in float32, even if autocast makes these bfloat16.
        return JointOutput(flat, logits.float(), reconstructed.float(), (u.float(), p.float()))
