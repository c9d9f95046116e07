"""Run by ``torchrun``: a step of two processes must be that of one with the whole batch."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from train.networks.losses import (
    classification_loss,
    contrastive_loss,
)
from train.runs.team import (
    Team,
    join_team,
)

BATCH, N_INPUTS, N_DIMS, N_SECTIONS = 8, 6, 5, 3
TOLERANCE = 1e-6


class TwoViews(nn.Module):
    """Two projections of a row, and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Linear(N_INPUTS, N_DIMS)
        self.p = nn.Linear(N_INPUTS, N_DIMS)
        self.classifier = nn.Linear(N_DIMS, N_SECTIONS)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return u, p and logits."""
        u = self.u(rows)
        return u, self.p(rows), self.classifier(u)


def losses(model: nn.Module, rows: Tensor, sections: Tensor, team: Team) -> tuple[Tensor, Tensor]:
    """Return contrastive and classification loss as `train.runs.fit` makes them."""
    u, p, logits = model(rows)
    contrastive = contrastive_loss(team.gather(u), team.gather(p), 0.5)
    return contrastive, classification_loss(logits, sections)


def main() -> None:
    """Compare losses and gradients; an assertion that fails fails the run."""
    with join_team(torch.device("cpu")) as team:
        assert team.size == 2
        torch.manual_seed(0)
        rows = torch.randn(BATCH, N_INPUTS)
        sections = torch.randint(N_SECTIONS, (BATCH,))
        whole = TwoViews()
        model = copy.deepcopy(whole)
        index = team.part(torch.arange(BATCH))

        expected = losses(whole, rows, sections, Team(0, 1, team.device))
        replica = team.wrap(model)  # kept: it averages the gradients
        actual = losses(replica, rows[index], sections[index], team)
        (expected[0] + expected[1]).backward()  # type: ignore[no-untyped-call]
        (actual[0] + actual[1]).backward()  # type: ignore[no-untyped-call]

        means = team.mean({"contrastive": actual[0], "classification": actual[1]})
        for mean, value in zip(means.values(), expected, strict=True):
            assert abs(mean - value.item()) < TOLERANCE
        assert abs(actual[0].item() - expected[0].item()) < TOLERANCE
        assert team.share(lambda: team.rank) == 0
        assert whole.u.weight.grad is not None
        for one, other in zip(model.parameters(), whole.parameters(), strict=True):
            assert one.grad is not None
            assert other.grad is not None
            assert (one.grad - other.grad).abs().max() < TOLERANCE
        assert whole.u.weight.grad.abs().max() > 1000 * TOLERANCE


if __name__ == "__main__":
    main()
