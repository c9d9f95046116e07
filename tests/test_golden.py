"""Test of what edgeasd makes of fixed recordings and configurations, against an earlier release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import golden

# Releases of numpy and ONNX Runtime differ in the last digits; those of edgeasd must not.
TOLERANCE = 1e-6


@pytest.mark.network
def test_results_are_those_of_the_earlier_release(tmp_path: Path) -> None:
    """Scores, events, payloads, models, calibrations and exit codes are what they were."""
    now = golden.record(None, tmp_path)

    before = json.loads(golden.FILE.read_text())
    assert list(golden.differences(before, now, TOLERANCE)) == []


def test_difference_is_told_with_its_place() -> None:
    """A value, a key or an entry that differs is found; numbers within the tolerance do not."""
    before = {"a": {"b": [1.0, 2.0]}, "c": 1, "d": "x"}
    after = {"a": {"b": [1.0 + 1e-9, 2.1]}, "c": 1.0, "e": "x"}

    assert list(golden.differences(before, after, TOLERANCE)) == [
        "/a/b/1: 2.0 before, 2.1 after",
        "/c: 1 before, 1.0 after",
        "/d: only before",
        "/e: only after",
    ]
