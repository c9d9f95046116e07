"""Fixtures of every test: seeded random numbers, and the folder of real recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings

from tests.capture.virtual_microphone import VirtualMicrophone
from tests.detect.models import make_model, normal_sound
from tests.disks import FrozenDisk, mounted_ext4
from tests.installation import RATE, Installation
from tests.publish.brokers import Mosquitto, Subscriber

# The same examples on every run, however busy the computer is.
settings.register_profile(
    "edgeasd", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# Others on every run, for `make test-slow`.
settings.register_profile(
    "thorough",
    max_examples=2000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto that is not started yet."""
    broker = Mosquitto(tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.fixture
def installation(tmp_path: Path, broker: Mosquitto) -> Iterator[Installation]:
    """An installation of that broker; its daemons end with the test."""
    installation = Installation(tmp_path, broker.port)
    yield installation
    for process in installation.processes:
        process.kill()
        process.communicate()


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    """One that hears everything of that broker, which runs."""
    broker.start()
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.close()


@pytest.fixture
def subscribe() -> Iterator[Callable[..., Subscriber]]:
    """Makes subscribers, and disconnects them in the end."""
    made: list[Subscriber] = []

    def make(*args: object, **kwargs: object) -> Subscriber:
        made.append(Subscriber(*args, **kwargs))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for subscriber in made:
        subscriber.close()


@pytest.fixture
def quick(installation: Installation) -> None:
    """The installation has a long recording, and a model that scores after three seconds."""
    make_model(installation.folder / "tiny.onnx", clip_windows=4)
    soundfile.write(installation.folder / "long.wav", normal_sound(120 * RATE, 5), RATE)


@pytest.fixture
def frozen_disk(tmp_path: Path) -> Iterator[FrozenDisk]:
    """A disk that can be made to answer no longer."""
    with mounted_ext4(tmp_path / "ext4") as disk:
        yield disk


@pytest.fixture
def alsa(tmp_path: Path) -> Iterator[VirtualMicrophone]:
    """A microphone that is silent until it is fed."""
    folder = tmp_path / "alsa"
    folder.mkdir()
    with VirtualMicrophone(folder) as microphone:
        yield microphone
