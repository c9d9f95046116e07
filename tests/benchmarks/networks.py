"""Model files of the sizes that are deployed, untrained: time knows no weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgeasd.detect.model.document import (
    DistanceDocument,
    ModelDocument,
    ScoringDocument,
    SectionDocument,
)
from edgeasd.detect.model.matrix import Matrix
from train.export.graph import to_onnx, with_document
from train.networks.model import SectionNet, Statistics
from train.recipe.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "train" / "recipes"
_NEVER = 1e9  # a threshold


def make_network() -> tuple[SectionNet, bytes]:
    """Return the network of the paper at full width, and its model file."""
    torch.manual_seed(0)
    recipe = load_recipe(RECIPES / "mbv2-cl-mf.toml")
    network = SectionNet(
        recipe.features.n_mels,
        4,
        kind=recipe.network.kind,
        width=recipe.network.width,
        pooling=recipe.network.pooling,
    ).eval()
    sections = tuple(SectionDocument(f"{index:02d}", _NEVER, _NEVER) for index in range(4))
    document = _document(recipe, ScoringDocument("log_odds"), sections)
    return network, with_document(to_onnx(network, recipe), document)


def make_statistics() -> bytes:
    """Return the model file of recipe `edge`: no weights, two references, two distances."""
    recipe = load_recipe(RECIPES / "edge.toml")
    n_mels = recipe.features.n_mels
    network = Statistics(n_mels, recipe.network.pooling).eval()
    references = Matrix(np.full((2, n_mels), -60.0, np.float32))
    whitening = Matrix(np.eye(n_mels, dtype=np.float32))
    scoring = ScoringDocument("mahalanobis", clip_windows=recipe.scoring.clip_windows)
    sections = (SectionDocument("00", _NEVER, _NEVER, references),)
    distances = (DistanceDocument(1.0, whitening), DistanceDocument(0.1, whitening))
    document = _document(recipe, scoring, sections, distances)
    return with_document(to_onnx(network, recipe), document)


def _document(
    recipe: Recipe,
    scoring: ScoringDocument,
    sections: tuple[SectionDocument, ...],
    distances: tuple[DistanceDocument, ...] = (),
) -> ModelDocument:
    return ModelDocument(
        id="benchmark",
        version="0",
        created="2026-01-01T00:00:00Z",
        machine_type="fan",
        features=recipe.features,
        window=recipe.window,
        scoring=scoring,
        sections=sections,
        distances=distances,
    )
