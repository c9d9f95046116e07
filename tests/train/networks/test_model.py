from __future__ import annotations

import pytest
import torch

from train.networks.model import (
    Autoencoder,
    JointModel,
    SectionNet,
    Standardise,
    average_max_pool,
    average_pool,
)


def test_average_max_pool_equals_loop_over_channels() -> None:
    """GAMP is the mean over frequency, then the mean plus the maximum over time."""
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))

    pooled = average_max_pool(features)

    assert pooled.shape == (2, 3)
    for clip in range(2):
        for channel in range(3):
            rows = features[clip, channel].tolist()  # a row is a moment
            over_time = [sum(row) / len(row) for row in rows]
            expected = sum(over_time) / len(over_time) + max(over_time)
            assert pooled[clip, channel].item() == pytest.approx(expected, abs=1e-6)


def test_average_max_pool_takes_the_maximum_over_time_only() -> None:
    """A value at one frequency and all moments is averaged; at one moment it stands out."""
    one_bin, one_moment = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    one_bin[..., 0] = 1.0
    one_moment[..., 0, :] = 1.0

    assert average_max_pool(one_bin).item() == 0.5
    assert average_max_pool(one_moment).item() == 1.25


def test_average_pool_is_mean_of_all() -> None:
    """Plain pooling weighs every moment and frequency alike."""
    features = torch.arange(24.0).view(1, 2, 3, 4)

    assert average_pool(features).tolist() == [[5.5, 17.5]]


@pytest.mark.parametrize("pooling", ["average", "average_max"])
def test_section_net_gives_embedding_and_logits_of_the_paper(pooling: str) -> None:
    """At width 1 the embedding has 1280 dimensions, and each section a logit."""
    network = SectionNet(128, 4, kind="mobilenet_v2", width=1.0, pooling=pooling).eval()

    with torch.inference_mode():
        embedding, logits = network(torch.zeros(2, 1, 64, 128))

    assert embedding.shape == (2, 1280)
    assert logits.shape == (2, 4)


def test_standardise_gives_rows_learned_zero_mean_and_unit_spread() -> None:
    """Each mel bin is shifted and scaled by its own statistics."""
    rows = torch.randn(1000, 3, generator=torch.Generator().manual_seed(1))
    rows = rows * torch.tensor([1.0, 5.0, 0.5]) - torch.tensor([60.0, 20.0, 80.0])
    standardise = Standardise(3)

    standardise.learn(rows, scale=True)

    std, mean = torch.std_mean(standardise(rows), dim=0)
    assert mean.tolist() == pytest.approx([0.0] * 3, abs=1e-5)
    assert std.tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_standardise_of_constant_bin_stays_finite() -> None:
    """A mel bin that never varied in training is not divided by 0."""
    standardise = Standardise(2)

    standardise.learn(torch.full((10, 2), -100.0), scale=True)

    assert standardise(torch.full((1, 2), -99.0)).tolist() == [[10.0, 10.0]]


def test_autoencoder_has_layers_of_the_paper() -> None:
    """8192 - 4 x 128 - 8 - 4 x 128 - 8192."""
    autoencoder = Autoencoder(8192)

    sizes = [
        (layer.in_features, layer.out_features)
        for layer in autoencoder.modules()
        if isinstance(layer, torch.nn.Linear)
    ]

    inner = [(128, 128)] * 3
    assert sizes == [(8192, 128), *inner, (128, 8), (8, 128), *inner, (128, 8192)]


def test_joint_model_projections_have_length_1_if_normalised() -> None:
    """Both views get 256 dimensions, and length 1 unless the raw form is asked for."""
    torch.manual_seed(0)
    windows = torch.randn(4, 1, 64, 128)
    lengths = {}

    for normalise in (True, False):
        model = JointModel(_small_net(), 8192, normalise=normalise)
        output = model(windows)
        assert output.projections is not None
        lengths[normalise] = torch.stack(output.projections).norm(dim=2)
        assert output.projections[0].shape == (4, 256)

    assert torch.allclose(lengths[True], torch.ones(2, 4))
    assert not torch.allclose(lengths[False], torch.ones(2, 4), atol=0.1)


def test_joint_model_shares_the_last_projection_between_views() -> None:
    """The MLP after the two linear layers is one for both views."""
    model = JointModel(_small_net(), 8192, normalise=True)
    shared = list(model.projection.shared.parameters())

    output = model(torch.randn(4, 1, 64, 128))
    assert output.projections is not None
    for view in output.projections:
        gradients = torch.autograd.grad(view.sum(), shared, retain_graph=True, allow_unused=True)
        assert all(gradient is not None for gradient in gradients)


def test_joint_model_without_autoencoder_classifies_only() -> None:
    """A recipe of the classifier alone builds and trains nothing else."""
    model = JointModel(_small_net(), 0, normalise=True)

    output = model(torch.zeros(2, 1, 64, 128))

    assert output.reconstructed is None
    assert output.projections is None
    assert all(name.startswith("network.") for name in model.state_dict())


def _small_net() -> SectionNet:
    return SectionNet(128, 2, kind="mobilenet_v2", width=0.1, pooling="average_max")
