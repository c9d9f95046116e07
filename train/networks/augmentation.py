"""Augmentation: changes to training windows that keep the machine sounding normal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from train.recipe.tables import AugmentationRecipe


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """How a batch was mixed: row i is ``weight`` of itself plus ``1 - weight`` of its partner.

    Attributes:
        partner: Index of the partner of each row, shape ``(B,)``.
        weight: Weight of the row itself, from 0 to 1.
    """

    partner: Tensor
    weight: float


def augment(log_mel: Tensor, fill: Tensor, recipe: AugmentationRecipe) -> tuple[Tensor, Mix | None]:
    """Return augmented windows, and how they were mixed, if they were.

    Args:
        log_mel: Windows, shape ``(B, 1, T, M)``, dB.
        fill: Values of a masked frame, shape ``(M,)``, dB.
        recipe: Strength of each change.
    """
    if recipe.frame_shift:
        log_mel = shift_frames(log_mel, recipe.frame_shift)
    if recipe.time_mask:
        log_mel = mask_time(log_mel, fill, recipe.time_mask)
    if not recipe.mixup:
        return log_mel, None
    mix = Mix(
        torch.randperm(len(log_mel)).to(log_mel.device),
        float(torch.distributions.Beta(recipe.mixup, recipe.mixup).sample()),
    )
    return mix.weight * log_mel + (1.0 - mix.weight) * log_mel[mix.partner], mix


def shift_frames(log_mel: Tensor, most: int) -> Tensor:
    """Return each window rolled along time by up to *most* frames in either direction."""
    n_windows, _, n_frames, _ = log_mel.shape
    shift = torch.randint(-most, most + 1, (n_windows, 1), device=log_mel.device)
    frame = (torch.arange(n_frames, device=log_mel.device) + shift) % n_frames  # (B, T)
    row = torch.arange(n_windows, device=log_mel.device)[:, None]  # (B, 1)
    return log_mel[row, :, frame].transpose(1, 2)  # (B, T, 1, M) to (B, 1, T, M)


def mask_time(log_mel: Tensor, fill: Tensor, most: int) -> Tensor:
    """Return each window with a run of up to *most* frames replaced by *fill*.

    References:
        Park et al. (2019), SpecAugment, section 2: time masking.
    """
    n_windows, _, n_frames, _ = log_mel.shape
    length = torch.randint(most + 1, (n_windows, 1), device=log_mel.device)
    room = n_frames - length + 1
    start = (torch.rand(n_windows, 1, device=log_mel.device) * room).long()
    frame = torch.arange(n_frames, device=log_mel.device)
    masked = (frame >= start) & (frame < start + length)  # (B, T)
    return torch.where(masked[:, None, :, None], fill, log_mel)
