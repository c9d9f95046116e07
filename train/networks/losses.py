"""The losses of Cai et al. (DCASE 2021), with the numbers of their equations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from train.networks.augmentation import Mix
from train.networks.model import JointOutput
from train.recipe.tables import LossRecipe


def reconstruction_loss(reconstructed: Tensor, window: Tensor) -> Tensor:
    """Return the mean square error of Eq. 1, over all values of the batch.

    Args:
        reconstructed: Shape ``(B, T * M)``.
        window: The standardised window, same shape.
    """
    return F.mse_loss(reconstructed, window)


def classification_loss(logits: Tensor, section: Tensor, mix: Mix | None = None) -> Tensor:
    """Return the cross-entropy of Eq. 2; for mixed windows, weighted between both sections.

    Args:
        logits: Shape ``(B, n_sections)``.
        section: Index of the section of each window, shape ``(B,)``.
        mix: How windows were mixed; `None` if they were not.

    References:
        Zhang et al. (2018), mixup; this is its form with two losses.
    """
    loss = F.cross_entropy(logits, section)
    if mix is None:
        return loss
    return mix.weight * loss + (1.0 - mix.weight) * F.cross_entropy(logits, section[mix.partner])


def contrastive_loss(u: Tensor, p: Tensor, rho: float) -> Tensor:
    """Return Eq. 4 as printed, averaged over the batch.

    The positive pair of row i is row i of the other view.  The denominator runs over ``j != i``, so
    the loss may be negative.  Only *u* is an anchor.  The equation is a sum over the batch; the
    mean makes the weights of Eq. 5 independent of the batch size, as in the published code of
    Khosla et al. (2020), who introduced this loss.

    Args:
        u: Projections of the CNN's embedding, shape ``(B, D)``, B at least 2.
        p: Projections of the autoencoder's bottleneck, shape ``(B, D)``.
        rho: Temperature.
    """
    similarity = u @ p.T / rho  # (B, B)
    own = torch.eye(len(u), dtype=torch.bool, device=u.device)
    others = similarity.masked_fill(own, -torch.inf).logsumexp(dim=1)  # (B,)
    return (others - similarity.diagonal()).mean()


def two_way_contrastive_loss(u: Tensor, p: Tensor, rho: float) -> Tensor:
    """Return the cross-entropy of finding the partner among all rows, mean of both directions.

    Unlike Eq. 4, the denominator contains the positive pair and *p* is an anchor as well, as in
    NT-Xent of Chen et al. (2020), SimCLR; but here only pairs between the views count.

    Args:
        u: Projections of the CNN's embedding, shape ``(B, D)``.
        p: Projections of the autoencoder's bottleneck, shape ``(B, D)``.
        rho: Temperature.
    """
    similarity = u @ p.T / rho  # (B, B)
    partner = torch.arange(len(u), device=u.device)
    one_way = F.cross_entropy(similarity, partner)
    return (one_way + F.cross_entropy(similarity.T, partner)) / 2.0


_CONTRASTIVE = {"printed": contrastive_loss, "two_way": two_way_contrastive_loss}


def loss_terms(
    output: JointOutput, section: Tensor, recipe: LossRecipe, mix: Mix | None = None
) -> dict[str, Tensor]:
    """Return the terms of Eq. 5 whose weight in the recipe is not zero, by name."""
    terms = {}
    if recipe.reconstruction > 0 and output.reconstructed is not None:
        terms["reconstruction"] = reconstruction_loss(output.reconstructed, output.window)
    if recipe.classification > 0 and output.logits is not None:
        terms["classification"] = classification_loss(output.logits, section, mix)
    if recipe.contrastive > 0 and output.projections is not None:
        terms["contrastive"] = _CONTRASTIVE[recipe.contrastive_form](
            *output.projections, recipe.rho
        )
    return terms


def total_loss(terms: Mapping[str, Tensor], recipe: LossRecipe) -> Tensor:
    """Return the weighted sum of the terms, Eq. 5."""
    return torch.stack([getattr(recipe, name) * term for name, term in terms.items()]).sum()
