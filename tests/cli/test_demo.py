"""What a newcomer sees first: ``edgeasd demo`` and its model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from edgeasd.capture.simulator.rotating_machine import render_clip
from edgeasd.cli.demo.demo import MODEL
from edgeasd.detect.pipeline import clip_outputs
from edgeasd.detect.scoring import clip_score
from tests.detect.models import load_model

SCORE = 3.83363813816793


SHORTLY = """
import sys
from edgeasd.cli.demo import demo
demo._FAULT_AFTER_S, demo._FAULT_DURATION_S = 4.0, 8.0
sys.exit(not demo.run_demo())
"""


@pytest.mark.network
@pytest.mark.parametrize(
    "program",
    [pytest.param(["-m", "edgeasd", "demo"], marks=pytest.mark.slow), ["-c", SHORTLY]],
    ids=["whole", "short"],
)
def test_demo_prints_one_start_and_one_end(program: list[str]) -> None:
    """The subscriber of the embedded broker gets one start of the fault and one end, no more."""
    result = subprocess.run(
        [sys.executable, *program], capture_output=True, text=True, check=False, timeout=300
    )

    assert result.returncode == 0, result.stderr
    topics, payloads = zip(
        *(line.split(" ", 1) for line in result.stdout.splitlines()), strict=True
    )
    assert set(topics) == {"edgeasd/v1/demo/fan/event"}
    assert [json.loads(payload)["type"] for payload in payloads] == ["start", "end"]
    assert result.stderr.splitlines()[-1].startswith("One start, ")


@pytest.mark.network
def test_demo_that_is_interrupted_ends_without_a_traceback() -> None:
    """Ctrl-C is no fault: what was received so far is told, and that is all."""
    with subprocess.Popen(
        [sys.executable, "-m", "edgeasd", "demo"], stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        while "score" not in demo.stderr.readline():
            assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        said = demo.stderr.read()

    assert "Traceback" not in said
    assert said.splitlines()[-1].endswith("received: nothing")


def test_demo_model_is_small() -> None:
    """The model that every installation carries is under 3 MB."""
    assert MODEL.stat().st_size < 3_000_000


def test_demo_model_tells_worn_from_healthy() -> None:
    """Recordings that it was not trained on are on their side of the threshold."""
    model = load_model(MODEL)
    threshold = model.document.sections[0].threshold

    for seed in range(3):
        scores = [
            clip_score(model.scoring(0), clip_outputs(model, render_clip(seed, 10.0, faulty=worn)))
            for worn in (False, True)
        ]
        assert scores[0] < threshold < scores[1]


def test_demo_model_gives_the_same_score_everywhere() -> None:
    """Python, numpy, scipy and ONNX Runtime of any version that is allowed score alike."""
    model = load_model(MODEL)

    score = clip_score(model.scoring(0), clip_outputs(model, render_clip(1, 10.0, faulty=True)))

    # One computer gives it to the last digit with each of them; another processor, with other
    # kernels for the float32 of the network, differed by 6e-7 of it.
    assert score == pytest.approx(SCORE, rel=1e-5)
