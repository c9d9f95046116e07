from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from train.networks.losses import (
    classification_loss,
    contrastive_loss,
    loss_terms,
    reconstruction_loss,
    total_loss,
    two_way_contrastive_loss,
)
from train.networks.model import JointOutput
from train.recipe.tables import LossRecipe

RHO = 0.07


def test_contrastive_loss_equals_loop_over_pairs_of_equation_4() -> None:
    """The loss is Eq. 4 as printed, j != i in the denominator, divided by the batch size."""
    u, p = _directions(6, seed=0), _directions(6, seed=1)

    actual = contrastive_loss(u, p, RHO)

    total = 0.0
    for i in range(6):
        others = [math.exp(_dot(u[i], p[j]) / RHO) for j in range(6) if j != i]
        total -= math.log(math.exp(_dot(u[i], p[i]) / RHO) / sum(others))
    assert actual.item() == pytest.approx(total / 6, rel=1e-5)


def test_two_way_contrastive_loss_equals_loop_over_pairs() -> None:
    """Both views are anchors, and the positive pair is in the denominator."""
    u, p = _directions(5, seed=2), _directions(5, seed=3)

    actual = two_way_contrastive_loss(u, p, RHO)

    total = 0.0
    for anchors, partners in ((u, p), (p, u)):
        for i in range(5):
            everything = [math.exp(_dot(anchors[i], partners[j]) / RHO) for j in range(5)]
            total -= math.log(everything[i] / sum(everything))
    assert actual.item() == pytest.approx(total / 10, rel=1e-5)


def test_contrastive_loss_does_not_overflow_where_its_quotient_would() -> None:
    """Raw inner products of 1000 over 0.07 still give a finite loss and finite gradients."""
    u = (_directions(4, seed=4) * 1000.0).requires_grad_()

    loss = contrastive_loss(u, u.detach(), RHO)
    loss.backward()  # type: ignore[no-untyped-call]

    assert torch.isfinite(loss)
    assert u.grad is not None
    assert torch.isfinite(u.grad).all()


def test_contrastive_loss_of_aligned_views_is_lower_than_of_shuffled_ones() -> None:
    """Views that agree row by row lose less than views that agree with other rows."""
    u = _directions(8, seed=5)

    assert contrastive_loss(u, u, RHO) < contrastive_loss(u, u.roll(1, 0), RHO)


def test_reconstruction_loss_is_mean_square() -> None:
    """Eq. 1 is the mean over all values."""
    loss = reconstruction_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]))

    assert loss.item() == 2.5


def test_classification_loss_is_negative_log_of_softmax() -> None:
    """Eq. 2 is the mean negative logarithm of the section's softmax output."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])

    loss = classification_loss(logits, torch.tensor([0, 0]))

    first = math.log(1.0 + math.exp(-2.0))
    second = math.log(1.0 + math.exp(1.0))
    assert loss.item() == pytest.approx((first + second) / 2.0)


def test_total_loss_is_weighted_sum_of_terms() -> None:
    """Eq. 5 takes each term times the weight in the recipe."""
    recipe = LossRecipe(reconstruction=2.0, classification=3.0, contrastive=0.5)
    output = _output()
    section = torch.tensor([0, 1, 1])

    terms = loss_terms(output, section, recipe)

    assert list(terms) == ["reconstruction", "classification", "contrastive"]
    expected = 2.0 * terms["reconstruction"] + 3.0 * terms["classification"]
    expected += 0.5 * terms["contrastive"]
    assert total_loss(terms, recipe).item() == pytest.approx(expected.item())


def test_loss_terms_of_weight_zero_are_left_out() -> None:
    """A weight of 0 removes the term rather than multiplying it."""
    recipe = LossRecipe(reconstruction=0.0, contrastive=0.0)

    assert list(loss_terms(_output(), torch.tensor([0, 1, 1]), recipe)) == ["classification"]


def test_loss_terms_contrastive_form_follows_recipe() -> None:
    """The recipe chooses between Eq. 4 as printed and the two-way form."""
    output = _output()
    assert output.projections is not None
    section = torch.tensor([0, 1, 1])

    printed = loss_terms(output, section, LossRecipe(contrastive_form="printed"))
    two_way = loss_terms(output, section, LossRecipe(contrastive_form="two_way"))

    assert printed["contrastive"] == contrastive_loss(*output.projections, RHO)
    assert two_way["contrastive"] == two_way_contrastive_loss(*output.projections, RHO)


def _output() -> JointOutput:
    generator = torch.Generator().manual_seed(6)
    return JointOutput(
        logits=torch.randn(3, 2, generator=generator),
        window=torch.randn(3, 10, generator=generator),
        reconstructed=torch.randn(3, 10, generator=generator),
        projections=(_directions(3, seed=7), _directions(3, seed=8)),
    )


def _directions(n_rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(n_rows, 256, generator=generator))


def _dot(left: Tensor, right: Tensor) -> float:
    products = [a * b for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    return float(sum(products))
