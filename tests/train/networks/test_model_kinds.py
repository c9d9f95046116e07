"""Tests of the networks that are kept beside MobileNetV2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.networks.model import JointModel, ReconstructionNet, SectionNet, Statistics

N_FRAMES, N_MELS = 16, 8


@pytest.fixture
def windows() -> torch.Tensor:
    """Three windows in dB."""
    generator = torch.Generator().manual_seed(0)
    return 10.0 * torch.randn(3, 1, N_FRAMES, N_MELS, generator=generator) - 40.0


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("pooling", ["average", "average_std"])
def test_statistics_are_mean_and_standard_deviation_over_time(
    pooling: str, windows: torch.Tensor, *, standardised: bool
) -> None:
    """Each mel bin gives its mean and, beside it, its standard deviation, as numpy does."""
    network = Statistics(N_MELS, pooling)
    rows = windows.view(-1, N_MELS)
    values = windows.double().numpy()[:, 0]
    if standardised:
        network.standardise.learn(rows, scale=True)
        exact = rows.double().numpy()
        values = (values - exact.mean(axis=0)) / exact.std(axis=0, ddof=1)

    embedding, logits = network(windows)

    expected = [values.mean(axis=1), values.std(axis=1)]
    expected = expected if pooling == "average_std" else expected[:1]
    assert logits is None
    # Of values near 40 float32 leaves 4e-6.
    assert embedding.numpy() == pytest.approx(np.concatenate(expected, axis=1), abs=2e-5)


def test_statistics_have_nothing_to_learn() -> None:
    """What a statistics network keeps are mean and spread of the mel bins."""
    network = Statistics(N_MELS, "average")

    assert list(network.parameters()) == []
    assert sorted(network.state_dict()) == ["standardise.mean", "standardise.std"]


def test_statistics_of_silence_are_finite() -> None:
    """A window that does not vary has the standard deviation 0."""
    embedding, _ = Statistics(N_MELS, "average_std")(torch.full((1, 1, N_FRAMES, N_MELS), -100.0))

    assert embedding.tolist() == [[-100.0] * N_MELS + [0.0] * N_MELS]


def test_reconstruction_net_gives_the_error_of_each_window(windows: torch.Tensor) -> None:
    """The embedding is the mean square error of each standardised window, layers done in numpy."""
    torch.manual_seed(1)
    network = ReconstructionNet(N_FRAMES, N_MELS)
    network.standardise.learn(windows.view(-1, N_MELS), scale=True)
    network(torch.randn(32, 1, N_FRAMES, N_MELS))  # gives batch normalisation its statistics
    network.eval()

    with torch.inference_mode():
        error, logits = network(windows)

    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    mean, std = weights["standardise.mean"], weights["standardise.std"]
    flat = ((windows.double().numpy() - mean) / std).reshape(3, -1)
    expected = np.square(_restore(flat, weights) - flat).mean(axis=1, keepdims=True)
    assert logits is None
    assert error.numpy() == pytest.approx(expected, rel=1e-5)


def test_reconstruction_net_trains_on_the_error_that_it_reports(windows: torch.Tensor) -> None:
    """The loss of the joint model is the mean of the errors that the daemon sees."""
    network = ReconstructionNet(N_FRAMES, N_MELS).eval()
    model = JointModel(network, N_FRAMES * N_MELS, normalise=True).eval()

    output = model(windows)
    error, _ = network(windows)

    assert output.logits is None
    assert output.projections is None
    loss = torch.nn.functional.mse_loss(output.reconstructed, output.window)
    assert loss.item() == pytest.approx(error.mean().item(), rel=1e-6)
    assert all(name.startswith("network.") for name in model.state_dict())


def test_efficientnet_b0_gives_embedding_and_logits() -> None:
    """EfficientNet-B0 takes one channel and embeds in 1280 dimensions; each section has a logit."""
    network = SectionNet(128, 4, kind="efficientnet_b0", width=1.0, pooling="average_max").eval()

    with torch.inference_mode():
        embedding, logits = network(torch.zeros(2, 1, 64, 128))

    assert embedding.shape == (2, 1280)
    assert logits.shape == (2, 4)
    n_weights = sum(value.numel() for value in network.features.parameters())
    # torchvision's 4 007 548, less two input channels of the first layer's 32 filters of 3 by 3.
    assert n_weights == 4_007_548 - 2 * 32 * 9


def _restore(flat: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the autoencoder makes of *flat*: nine layers with batch norm and ReLU, a last."""
    for name in [f"encoder.{i}" for i in range(5)] + [f"decoder.{i}" for i in range(4)]:
        linear, norm = f"autoencoder.{name}.0", f"autoencoder.{name}.1"
        flat = flat @ weights[f"{linear}.weight"].T + weights[f"{linear}.bias"]
        flat = (flat - weights[f"{norm}.running_mean"]) / np.sqrt(
            weights[f"{norm}.running_var"] + 1e-5
        )
        flat = np.maximum(flat * weights[f"{norm}.weight"] + weights[f"{norm}.bias"], 0.0)
    last = "autoencoder.decoder.4"
    restored: np.ndarray = flat @ weights[f"{last}.weight"].T + weights[f"{last}.bias"]
    return restored
