"""Fixtures of every test: seeded random numbers, and the folder of real recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.capture.virtual_microphone import VirtualMicrophone
from tests.commands import one_trial_process
from tests.detect.models import make_model
from tests.disks import FrozenDisk, mounted_ext4
from tests.installation import Installation, two_normal_minutes
from tests.publish.brokers import Mosquitto, Subscriber

# The same examples on every run, however busy the computer is.
settings.register_profile(
    "edgeasd",
    max_examples=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
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

MOST_CPU_S = 60.0
"""What a test, or the making of its fixtures, may compute unless it is marked as slow.

It is half a minute on a quiet computer.  On a busy one programs take caches and clock rate from
each other, and the same work counts for up to twice as much.
"""

CHECKOUT = Path(__file__).resolve().parent.parent


def cpu_s() -> float:
    """Return the seconds that this process, and those it has waited for, have computed."""
    return sum(os.times()[:4])


@contextmanager
def refusing_much_work(item: pytest.Item) -> Iterator[None]:
    """Fail a test that computes for long and is not marked as slow.

    Computing is counted, rather than time: a busy computer makes no test slow.
    """
    began_s = cpu_s()
    yield
    took_s = cpu_s() - began_s
    if took_s > MOST_CPU_S and item.get_closest_marker("slow") is None:
        pytest.fail(f"computed for {took_s:.0f} s; mark it as slow, or have it do less")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the daemons, which listen in real time: at the end they would be waited for."""
    items.sort(key=lambda item: "service" not in item.path.parts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Make the fixtures of a test."""
    with refusing_much_work(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test."""
    with refusing_much_work(item):
        yield


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


@pytest.fixture(scope="module")
def shared_trials() -> Iterator[None]:
    """Models are tried in one process for all tests."""
    with one_trial_process():
        yield


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
    (installation.folder / "long.wav").write_bytes(two_normal_minutes())


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
