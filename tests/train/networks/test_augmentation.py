from __future__ import annotations

import pytest
import torch

from train.networks.augmentation import Mix, augment, mask_time, shift_frames
from train.networks.losses import classification_loss, loss_terms
from train.networks.model import JointOutput
from train.recipe.tables import AugmentationRecipe, LossRecipe

N_WINDOWS, N_FRAMES, N_MELS = 200, 12, 3
FILL = torch.tensor([-60.0, -70.0, -80.0])


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The augmentation draws from the global generator, as `fit` seeds it."""
    torch.manual_seed(0)


@pytest.fixture
def windows() -> torch.Tensor:
    """Windows in which every value is another one."""
    return torch.arange(float(N_WINDOWS * N_FRAMES * N_MELS)).view(N_WINDOWS, 1, N_FRAMES, N_MELS)


def test_shift_rolls_each_window_by_its_own_number_of_frames(windows: torch.Tensor) -> None:
    """A window is rolled along time by at most so many frames, each of them happens, both ways."""
    shifted = shift_frames(windows, 3)

    assert shifted.shape == windows.shape
    rolls = [_roll(before, after) for before, after in zip(windows, shifted, strict=True)]
    assert set(rolls) == {-3, -2, -1, 0, 1, 2, 3}


def test_mask_replaces_one_piece_of_each_window(windows: torch.Tensor) -> None:
    """Up to so many frames in one piece, anywhere, are the fill; the others stay."""
    masked = mask_time(windows, FILL, 4)

    lengths, places = set(), set()
    for before, after in zip(windows, masked, strict=True):
        changed = (before != after).any(dim=2)[0].nonzero().flatten().tolist()
        places.update(changed)
        lengths.add(len(changed))
        assert changed == list(range(changed[0], changed[0] + len(changed))) if changed else True
        assert torch.equal(after[0, changed], FILL.expand(len(changed), N_MELS))
    assert lengths == {0, 1, 2, 3, 4}
    assert places == set(range(N_FRAMES))


def test_mixup_is_the_stated_mixture(windows: torch.Tensor) -> None:
    """Each window is so much of itself and the rest of its partner, by one weight for all."""
    mixed, mix = augment(windows, FILL, AugmentationRecipe(mixup=0.2))

    assert mix is not None
    assert 0.0 <= mix.weight <= 1.0
    assert sorted(mix.partner.tolist()) == list(range(N_WINDOWS))
    for row, partner in enumerate(mix.partner.tolist()):
        expected = mix.weight * windows[row] + (1.0 - mix.weight) * windows[partner]
        assert torch.equal(mixed[row], expected)


def test_mixup_weight_is_drawn_anew_from_a_beta_distribution(windows: torch.Tensor) -> None:
    """Its mean is a half and its variance 1 / (4 (2 alpha + 1)), that of beta(alpha, alpha)."""
    recipe = AugmentationRecipe(mixup=0.5)

    weights = torch.tensor([_mix(windows[:2], recipe).weight for _ in range(2000)])

    # The standard errors are 0.008 and 0.002.
    assert weights.mean().item() == pytest.approx(0.5, abs=0.03)
    assert weights.var().item() == pytest.approx(1 / 8, abs=0.01)


def test_mixup_loss_is_the_mixture_of_both_sections_losses() -> None:
    """The cross-entropy counts to the own section by the weight, to the partner's by the rest."""
    logits = torch.randn(3, 4)
    section = torch.tensor([0, 3, 1])
    mix = Mix(torch.tensor([1, 2, 0]), 0.75)

    loss = classification_loss(logits, section, mix)

    chance = logits.double().softmax(dim=1).log()
    expected = 0.0
    for row, (own, other) in enumerate([(0, 3), (3, 1), (1, 0)]):
        expected -= (0.75 * chance[row, own] + 0.25 * chance[row, other]).item() / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_mixup_loss_of_weight_one_is_the_plain_loss() -> None:
    """A window that is all its own has the loss of one that was not mixed."""
    logits, section = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    mix = Mix(torch.tensor([4, 3, 2, 1, 0]), 1.0)

    terms = loss_terms(JointOutput(torch.zeros(5, 1), logits), section, LossRecipe(), mix)

    assert torch.equal(terms["classification"], torch.nn.functional.cross_entropy(logits, section))


def test_augment_without_changes_returns_the_windows_and_draws_nothing(
    windows: torch.Tensor,
) -> None:
    """A recipe without augmentation trains on what was recorded."""
    before = torch.get_rng_state()

    same, mix = augment(windows, FILL, AugmentationRecipe())

    assert same is windows
    assert mix is None
    assert torch.equal(torch.get_rng_state(), before)


def test_augment_shifts_masks_and_mixes_in_this_order(windows: torch.Tensor) -> None:
    """All three changes together are the three after one another."""
    recipe = AugmentationRecipe(mixup=0.2, time_mask=4, frame_shift=3)

    together, _ = augment(windows, FILL, recipe)

    torch.manual_seed(0)
    one_by_one = mask_time(shift_frames(windows, 3), FILL, 4)
    one_by_one, _ = augment(one_by_one, FILL, AugmentationRecipe(mixup=0.2))
    assert torch.equal(together, one_by_one)


def _roll(before: torch.Tensor, after: torch.Tensor) -> int:
    """Return the number of frames by which *after* is *before*, rolled."""
    (roll,) = [n for n in range(-3, 4) if torch.equal(torch.roll(before, n, dims=1), after)]
    return roll


def _mix(windows: torch.Tensor, recipe: AugmentationRecipe) -> Mix:
    _, mix = augment(windows, FILL, recipe)
    assert mix is not None
    return mix
