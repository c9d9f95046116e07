"""Tests of what made a score, on the demo model and its simulated machine."""

from __future__ import annotations

import numpy as np
import pytest

from edgeasd.capture.simulator.rotating_machine import SECTIONS, render_clip
from edgeasd.common.types import Float32Array
from edgeasd.detect.features import log_mel
from edgeasd.detect.model.network import Model
from edgeasd.detect.model.spectrum import NormalSpectrum, normal_spectrum
from edgeasd.detect.pipeline import clip_outputs
from edgeasd.detect.scoring import clip_score
from edgeasd.offline.explain.explain import N_BANDS, band_edges, explain, shares
from tests.conftest import CHECKOUT
from tests.detect.models import load_model


@pytest.fixture(scope="module")
def model() -> Model:
    """The demo model."""
    return load_model(CHECKOUT / "edgeasd" / "models" / "demo.onnx")


@pytest.fixture(scope="module")
def normal(model: Model) -> NormalSpectrum:
    """How loud the simulated machine is while it is healthy."""
    clips = [render_clip(seed=seed, duration_s=10, faulty=False) for seed in range(4)]
    return normal_spectrum([log_mel(clip, model.document.features) for clip in clips])


def test_explanation_of_the_worn_bearing_names_its_resonances_and_rate(
    model: Model, normal: NormalSpectrum
) -> None:
    """The simulator's fault rings at 2.9 and 5.2 kHz, 88 times a second: so is it told."""
    design = SECTIONS[0]

    explanation = explain(model, 0, normal, render_clip(seed=7, duration_s=10, faulty=True))

    found = sorted(explanation.findings, key=lambda one: -one.excess_db)[:2]
    found.sort(key=lambda one: one.low_hz)
    for finding, resonance in zip(found, design.structure_hz, strict=True):
        assert finding.low_hz < resonance < finding.high_hz
        assert finding.impulsive
        assert finding.rate_hz == pytest.approx(design.shaft_hz * design.outer_race_order, rel=0.03)


def test_explanation_has_the_score_of_the_clip(model: Model, normal: NormalSpectrum) -> None:
    """What is explained is the very score of the clip."""
    samples = render_clip(seed=8, duration_s=10, faulty=False)

    explanation = explain(model, 0, normal, samples)

    assert explanation.score == clip_score(model.scoring(0), clip_outputs(model, samples))
    assert explanation.bands.shape == (N_BANDS,)
    assert explanation.words == [
        "no part of the spectrum stands out: the sound differs a little in many places"
    ]


def test_shares_of_a_squared_distance_are_its_shapley_values() -> None:
    """They add up to the distance, also where the parts work together."""
    weights = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])
    frames = np.array([[1.0, 2.0, 3.0]], np.float32)

    def squared_distance(values: Float32Array) -> float:
        return float(values[0] @ weights @ values[0])

    parts = [np.s_[:, index : index + 1] for index in range(3)]

    found = shares(squared_distance, frames, np.zeros_like(frames), parts)

    # Of x'Wx part i gets x_i (Wx)_i: half of what it makes together with each other part.
    np.testing.assert_allclose(found, frames[0] * (weights @ frames[0]))


@pytest.mark.parametrize("n_mels", [16, 40, 128])
def test_bands_cover_every_bin_once(n_mels: int) -> None:
    """The bands leave no mel bin out, and none is empty."""
    edges = band_edges(n_mels)

    assert (edges[0], edges[-1], len(edges)) == (0, n_mels, N_BANDS + 1)
    assert min(np.diff(edges)) >= 1
