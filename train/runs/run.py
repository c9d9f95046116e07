"""The folder of a training run: recipe.toml, run.json, log.jsonl, checkpoint.pt."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import torch

import edgeasd
import train
from edgeasd.common.errors import EdgeasdError, StorageError
from edgeasd.common.files.whole_file import whole_file
from train.data.split import TrainingData, load_training_data
from train.networks.model import Network, ReconstructionNet, SectionNet, Statistics
from train.recipe.recipe import Recipe, load_recipe

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "onnxruntime")


class StoppedError(EdgeasdError):
    """The user interrupted the training."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Provenance of the weights of a run.

    Attributes:
        recipe: Name of the recipe.
        recipe_digest: Digest of the recipe, `Recipe.digest`.
        seed: Seed of the random numbers.
        data: Folder of the clips.
        data_digest: Digest of the clips, `TrainingData.digest`.
        machine_type: Machine type, for example ``fan``.
        sections: Names of the sections, in the order of the logits.
        n_clips: Number of clips to learn from.
        n_windows: Number of their windows.
        held_out: Names of the clips that are used for the threshold only.
        created: RFC 3339 time at which the run began.
        commit: Commit of the checkout, with ``-dirty`` if changed; empty outside a checkout.
        versions: Versions of edgeasd, Python and the libraries that affect results.
        background: Folder of other recordings; empty if there is none.
    """

    recipe: str
    recipe_digest: str
    seed: int
    data: str
    data_digest: str
    machine_type: str
    sections: Sequence[str]
    n_clips: int
    n_windows: int
    held_out: Sequence[str]
    created: str
    commit: str
    versions: Mapping[str, str]
    background: str = ""

    @classmethod
    def of(
        cls, recipe: Recipe, folder: Path, background: Path | None, data: TrainingData
    ) -> RunInfo:
        """Return the provenance of a run that begins now."""
        return cls(
            recipe=recipe.name,
            recipe_digest=recipe.digest,
            seed=recipe.seed,
            data=str(folder.resolve()),
            background=str(background.resolve()) if background else "",
            data_digest=data.digest,
            machine_type=data.machine_type,
            sections=data.sections,
            n_clips=len(data.fitted),
            n_windows=sum(len(one.starts) for one in data.fitted),
            held_out=[one.clip.path.name for one in data.held_out],
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            commit=_commit(),
            versions=_versions(),
        )


class Run:
    """The folder of a run, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipe.toml"
        self.info = folder / "run.json"
        self.log = folder / "log.jsonl"
        self.checkpoint = folder / "checkpoint.pt"

    def read_info(self) -> RunInfo:
        """Return what `write_info` wrote.

        Raises:
            EdgeasdError: If the folder holds no run.
        """
        try:
            return RunInfo(**json.loads(self.info.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as exc:
            raise EdgeasdError(
                f"{self.folder}: holds no run ({exc}); 'python -m train fit' makes one"
            ) from exc

    def write_info(self, info: RunInfo, recipe: Recipe) -> None:
        """Write run.json and recipe.toml."""
        write_atomically(self.info, (json.dumps(asdict(info), indent=1) + "\n").encode())
        write_atomically(self.recipe, recipe.to_toml().encode())

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write *state*; a reader finds either the old or the new checkpoint, complete."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def read_checkpoint(self) -> dict[str, Any]:
        """Return the state of the last completed epoch.

        Raises:
            EdgeasdError: If there is no checkpoint.
        """
        try:
            state: dict[str, Any] = torch.load(
                self.checkpoint, map_location="cpu", weights_only=True
            )
        except OSError as exc:
            raise EdgeasdError(
                f"{self.checkpoint}: cannot be read ({exc.strerror}); "
                "'python -m train fit' makes it"
            ) from exc
        return state


@dataclass(frozen=True, slots=True, eq=False)
class FittedRun:
    """A trained network with everything that it was made from.

    Attributes:
        recipe: Recipe of the run.
        info: Provenance of the run.
        data: Training clips.
        folder: Folder of the clips.
        network: Network in evaluation mode, on the CPU.
        history: Log of the training, an entry for each epoch.
    """

    recipe: Recipe
    info: RunInfo
    data: TrainingData
    folder: Path
    network: Network
    history: list[dict[str, float]]


def load_run(folder: Path, data_folder: Path | None) -> FittedRun:
    """Load a run and its training data.

    Args:
        folder: Folder of the run.
        data_folder: Folder of the data, if it was moved.

    Raises:
        EdgeasdError: If there is no such run, or its training data has changed.
    """
    run = Run(folder)
    info, recipe, state = run.read_info(), load_recipe(run.recipe), run.read_checkpoint()
    data_folder = data_folder or Path(info.data)
    background = Path(info.background) if info.background else None
    data = load_training_data(data_folder, recipe, background)
    if data.digest != info.data_digest:
        raise EdgeasdError(
            f"{data_folder}: the training clips must be those that {folder} was trained on"
        )
    network = make_network(recipe, data)
    prefix = "network."
    network.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in state["model"].items()
            if name.startswith(prefix)
        }
    )
    return FittedRun(recipe, info, data, data_folder, network.eval(), state["history"])


def make_network(recipe: Recipe, data: TrainingData) -> Network:
    """Return the untrained network of the recipe for *data*."""
    network, n_mels = recipe.network, recipe.features.n_mels
    if network.kind == "autoencoder":
        return ReconstructionNet(recipe.window.n_frames, n_mels)
    if network.kind == "statistics":
        return Statistics(n_mels, network.pooling)
    return SectionNet(
        n_mels,
        len(data.sections),
        kind=network.kind,
        width=network.width,
        pooling=network.pooling,
        n_others=1 if data.background else 0,
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Write *content* to *path*; a reader finds either the old or the new content, complete.

    Raises:
        StorageError: If the file cannot be written.
    """
    with atomically(path) as file:
        file.write(content)


def write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write *rows* to *path* as CSV, in the manner of `write_atomically`.

    Raises:
        StorageError: If the file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, text.getvalue().encode())


@contextlib.contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """Yield a `whole_file`, after creating its folder.

    Raises:
        StorageError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            yield file
    except OSError as exc:
        raise StorageError(f"{path}: cannot be written ({exc.strerror})") from exc


def _commit() -> str:
    command = (
        "git",
        "-C",
        str(Path(train.__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - fixed
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    versions = {name: metadata.version(name) for name in _PACKAGES}
    return {"edgeasd": edgeasd.__version__, "python": platform.python_version(), **versions}
