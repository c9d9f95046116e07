"""Fixtures of every test: seeded random numbers, and the folder of real recordings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run, however busy the computer is.
settings.register_profile(
    "edgeasd", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgeasd")

CHECKOUT = Path(__file__).resolve().parent.parent


def find_data_folder() -> Path:
    """Return the folder of real recordings, whether it is there or not."""
    named = os.environ.get("EDGEASD_TEST_DATA")
    return Path(named) if named else CHECKOUT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real recordings; a test that asks for it carries the mark ``data``."""
    folder = find_data_folder()
    if not folder.is_dir():
        pytest.skip(f"no recordings: set EDGEASD_TEST_DATA or put them at {folder}")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same for every test and run."""
    return np.random.default_rng(2021)
