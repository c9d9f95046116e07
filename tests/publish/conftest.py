"""What the tests of this folder share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edgeasd.publish.outbox.outbox import Outbox
from tests.publish.brokers import Mosquitto
from tests.publish.scripted_broker import ScriptedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


@pytest.fixture
def make_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Makes brokers, not started, and stops them in the end."""
    made: list[Mosquitto] = []

    def make(passwords: dict[str, str] | None = None, lines: Sequence[str] = ()) -> Mosquitto:
        made.append(Mosquitto(tmp_path / f"mosquitto{len(made)}", passwords, lines))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A broker that runs and lets everyone in."""
    broker = make_mosquitto()
    broker.start()
    return broker


@pytest.fixture
def make_broker() -> Iterator[Callable[..., ScriptedBroker]]:
    """Makes brokers that do as they are told, and closes them in the end."""
    made: list[ScriptedBroker] = []

    def make(*args: Any, **kwargs: Any) -> ScriptedBroker:
        made.append(ScriptedBroker(*args, **kwargs))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An empty outbox."""
    made = Outbox(tmp_path / "outbox.db")
    yield made
    made.close()
