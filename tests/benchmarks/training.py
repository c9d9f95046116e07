"""``python -m tests.benchmarks.training``: the training loop beside a bare one, turn by turn."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from train.data.bank import WindowBank
from train.data.clips import Clip
from train.data.split import TrainingData
from train.data.windows import ClipWindows
from train.networks.losses import loss_terms, total_loss
from train.networks.model import SectionNet
from train.recipe.recipe import load_recipe
from train.runs.fit import _join_networks, _Trainer
from train.runs.run import Run, make_network
from train.runs.team import Team

RECIPE = Path(__file__).parents[2] / "train" / "recipes" / "mbv2-cl-mf.toml"
N_ROUNDS = 6
N_STEPS = 15


def make_data(n_windows: int) -> TrainingData:
    """Return windows of noise in two sections: time knows no sound."""
    rng = np.random.default_rng(0)
    clips = [
        ClipWindows(
            clip=Clip(Path(section), "fan", section, "source", "train", "normal"),
            rows=rng.normal(-60.0, 6.0, (n_windows // 2 * 64, 128)).astype(np.float32),
            starts=np.arange(n_windows // 2) * 64,
            n_frames=64,
            digest="",
        )
        for section in ("00", "01")
    ]
    return TrainingData("fan", ["00", "01"], clips, [], [], "")


def main() -> None:
    """Print windows per second of both loops, and their ratio."""
    recipe = load_recipe(RECIPE)
    batch_size = recipe.optimiser.batch_size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = make_data(N_STEPS * batch_size)
    bank = WindowBank(data, device)
    torch.manual_seed(0)
    network = make_network(recipe, data)
    assert isinstance(network, SectionNet)
    model = _join_networks(recipe, network).to(device).to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _Trainer(recipe, bank, model, Team(0, 1, device), Run(Path(folder)))
    batches = [
        (windows.contiguous(memory_format=torch.channels_last), sections)
        for windows, sections in map(bank.fetch, bank.batches(batch_size, torch.Generator()))
    ]

    def bare() -> None:
        for windows, sections in batches:
            with torch.autocast("cuda", torch.bfloat16, enabled=windows.is_cuda):
                output = model(windows)
            loss = total_loss(loss_terms(output, sections, recipe.loss), recipe.loss)
            trainer._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            trainer._optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds: dict[str, list[float]] = {"bare": [], "fit": []}
    for _ in range(N_ROUNDS):
        for name, loop in (("bare", bare), ("fit", lambda: trainer._train_epoch(0))):
            began = time.perf_counter()
            loop()
            seconds[name].append(time.perf_counter() - began)
    # The first round warms up.
    rates = {
        name: N_STEPS * batch_size / statistics.median(each[1:]) for name, each in seconds.items()
    }
    ratios = [b / f for b, f in zip(seconds["bare"][1:], seconds["fit"][1:], strict=True)]
    print(f"bare loop, forward, backward and step    {rates['bare']:6.0f} windows/s")
    print(f"fit, with batches, log and progress      {rates['fit']:6.0f} windows/s")
    ratio = statistics.median(ratios)
    print(f"fit / bare, median of rounds             {ratio:6.2f}   (at least 0.85)")


if __name__ == "__main__":
    main()
