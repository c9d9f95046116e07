"""Whatever stands in a model file, it is refused with a ModelError, or scores sound."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import CHECKOUT
from tests.detect.models import with_metadata
from tests.detect.scoring_process import use_or_refuse
from tests.detect.small_models import (
    LOG_ODDS,
    MAHALANOBIS,
    NEAREST,
    RECONSTRUCTION,
    document_of,
    graph_of,
)
from tests.mutation import altered, spoiled

pytestmark = pytest.mark.fuzz

CONTENTS = {
    "nearest": NEAREST,
    "log_odds": LOG_ODDS,
    "mahalanobis": MAHALANOBIS,
    "reconstruction": RECONSTRUCTION,
}


@pytest.fixture(scope="module")
def scorer() -> Iterator[subprocess.Popen[str]]:
    """A process that loads model files and scores with them."""
    command = [sys.executable, "-W", "error", "-m", "tests.detect.scoring_process"]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@given(st.data())
@pytest.mark.parametrize("method", CONTENTS)
def test_model_of_any_altered_document_is_used_or_refused(method: str, data: st.DataObject) -> None:
    """A document with other values is refused at the start, or the machine can be listened to."""
    content = CONTENTS[method]
    document = data.draw(altered(document_of(content)))

    use_or_refuse(with_metadata(graph_of(content), json.dumps(document)))


@given(st.sampled_from(list(CONTENTS.values())).flatmap(lambda content: spoiled(content, 600)))
def test_model_of_any_spoiled_bytes_is_used_or_refused(
    scorer: subprocess.Popen[str], content: bytes
) -> None:
    """A spoiled file neither ends in another error nor brings the process down."""
    assert scorer.stdin is not None
    assert scorer.stdout is not None

    scorer.stdin.write(base64.b64encode(content).decode() + "\n")
    scorer.stdin.flush()

    # Nothing at all would mean that the process is gone.
    assert scorer.stdout.readline() == "\n"
