"""Loads model files and scores with them, apart from the tests that spoil them.

ONNX Runtime is C++: a graph that brings it down takes its process along.  Standard input has a file
a line, in base64; for each comes back an empty line, or what went wrong.
"""

from __future__ import annotations

import base64
import sys

from edgeasd.common.errors import ModelError
from edgeasd.common.types import AudioBlock
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.model.network import Model
from edgeasd.detect.pipeline import Pipeline
from tests.detect.cutting import noise

_MOST_SAMPLES = 200_000


def use_or_refuse(content: bytes) -> None:
    """Score noise with the model file *content*, or see it refused when it is loaded."""
    try:
        model = Model(content, "tiny.onnx")
    except ModelError as exc:
        message = str(exc)
        assert message.startswith("tiny.onnx: ")
        assert "\n" not in message
        return
    document = model.document
    section = document.sections[0]
    n_windows = min(document.scoring.clip_windows, 40)
    hop = document.window.hop_frames * document.features.hop_length
    n_samples = document.features.n_samples(document.window.n_frames) + n_windows * hop
    pipeline = Pipeline(model, 0, AlarmSpec(section.threshold, section.clear_threshold))
    pipeline.process(AudioBlock(noise(min(n_samples, _MOST_SAMPLES)), 0))


def answer(line: str) -> str:
    """Return what went wrong with the file in *line*, nothing if all was well."""
    try:
        use_or_refuse(base64.b64decode(line))
    except Exception as exc:  # noqa: BLE001 - any of them is for the test to show
        return repr(exc).replace("\n", " ")
    return ""


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        print(answer(line), flush=True)


if __name__ == "__main__":
    main()
