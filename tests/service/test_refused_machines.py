"""Machines that cannot be listened to as the configuration wants it: the others are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.installation import NODE, PACED, Installation, finish, last_heard, machine_health, reload
from tests.publish.brokers import Subscriber, wait_until

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("quick")]

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Bad:
    """A machine whose files are not what they should be.

    Attributes:
        name: Its name, which its files bear.
        spoil: What is done to a file in the place of the good one.
        suffix: Of that file: the model's or the recording's.
        told: Part of what is said.
    """

    name: str
    spoil: Callable[[Path], object]
    suffix: str
    told: str


BAD = (
    Bad("no-model", lambda _: None, ".onnx", "cannot be read"),
    Bad("half-model", lambda path: path.write_bytes(b"half a copy"), ".onnx", "is not an ONNX"),
    Bad("empty-model", lambda path: path.touch(), ".onnx", "is not an ONNX"),
    Bad("folder-model", Path.mkdir, ".onnx", "cannot be read"),
    Bad("no-sound", lambda _: None, ".wav", "does not exist"),
    Bad("empty-sound", lambda path: path.touch(), ".wav", "is empty"),
    Bad("no-wav", lambda path: path.write_text("text " * 100), ".wav", "is not a sound file"),
    Bad("folder-sound", Path.mkdir, ".wav", "is not a file"),
)


def mend(installation: Installation, name: str, suffix: str) -> None:
    """Put the good file in its place."""
    path = installation.folder / f"{name}{suffix}"
    if path.is_dir():
        path.rmdir()
    good = {".onnx": "tiny.onnx", ".wav": "long.wav"}[suffix]
    draft = installation.folder / "draft"
    shutil.copy(installation.folder / good, draft)
    draft.replace(path)


def table(name: str) -> str:
    """Return the table of a machine whose files bear its name."""
    source = f'[machine.file]\npath = "{name}.wav"'
    return f'[[machine]]\nname = "{name}"\nmodel = "{name}.onnx"\n{source}\n'


def refusals(subscriber: Subscriber) -> list[str]:
    """Return what health says is refused."""
    found: list[str] = last_heard(subscriber, "health").get("configuration", {}).get("refused", [])
    return found


@pytest.mark.parametrize("by", ["start", "reload"])
def test_machines_that_cannot_be_used_are_told_and_tried_again(
    installation: Installation, subscriber: Subscriber, by: str
) -> None:
    """The good one is heard, each bad one told with its reason; mended, all are heard."""
    for bad in BAD:
        for suffix in (".onnx", ".wav"):
            if suffix == bad.suffix:
                bad.spoil(installation.folder / f"{bad.name}{suffix}")
            else:
                mend(installation, bad.name, suffix)
    installation.configure(PACED, mqtt="health_interval_s = 1")
    good = installation.config.read_text()
    everything = good + "".join(table(bad.name) for bad in BAD)
    if by == "start":
        installation.config.write_text(everything)
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score of m1", PATIENCE_S)
    if by == "reload":
        installation.config.write_text(everything)
        reload(process)

    wait_until(lambda: len(refusals(subscriber)) == len(BAD), "the refusals", PATIENCE_S)
    for bad, told in zip(BAD, refusals(subscriber), strict=True):
        assert told.startswith(f"machine '{bad.name}': ")
        assert bad.told in told
        wait_until(
            lambda name=bad.name: last_heard(subscriber, f"{name}/state"),  # type: ignore[misc]
            f"the state of {bad.name}",
            PATIENCE_S,
        )
        state = last_heard(subscriber, f"{bad.name}/state")
        assert (state["state"], state["threshold"]) == ("stale", None)
        assert bad.told in state["reason"]
    n_scores = len(subscriber.on(f"{NODE}/m1/score"))
    wait_until(lambda: len(subscriber.on(f"{NODE}/m1/score")) > n_scores, "m1 goes on", PATIENCE_S)

    for bad in BAD:
        mend(installation, bad.name, bad.suffix)
    wait_until(lambda: last_heard(subscriber, "health")["configuration"]["ok"], "all", PATIENCE_S)
    for bad in BAD:
        wait_until(
            lambda name=bad.name: last_heard(subscriber, f"{name}/state")["state"] != "stale",  # type: ignore[misc]
            f"{bad.name} to be heard",
            PATIENCE_S,
        )
    process.terminate()
    log = finish(process)
    assert [log.count(f"machine '{bad.name}'") for bad in BAD] == [1] * len(BAD)
    assert "Traceback" not in log


def test_daemon_without_one_machine_that_can_be_used_waits_for_it(
    installation: Installation, subscriber: Subscriber
) -> None:
    """At the start as after a reload: it says why, and hears the machine once it can."""
    installation.configure(PACED, mqtt="health_interval_s = 1")
    (installation.folder / "tiny.onnx").rename(installation.folder / "away.onnx")
    process = installation.start()
    wait_until(lambda: refusals(subscriber), "the refusal", PATIENCE_S)

    (installation.folder / "away.onnx").rename(installation.folder / "tiny.onnx")

    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score", PATIENCE_S)
    process.terminate()
    finish(process)


def test_change_that_cannot_be_used_is_used_once_it_can(
    installation: Installation, subscriber: Subscriber
) -> None:
    """A machine goes on as it was until the model that it is to have is there."""

    def model() -> Any:
        return machine_health(last_heard(subscriber, "health"), "m1").get("model")

    installation.configure(PACED, mqtt="health_interval_s = 1")
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score", PATIENCE_S)
    wait_until(model, "the model in health", PATIENCE_S)
    before = model()
    installation.config.write_text(
        installation.config.read_text().replace("tiny.onnx", "next.onnx")
    )
    reload(process)
    wait_until(lambda: refusals(subscriber), "the refusal", PATIENCE_S)
    assert last_heard(subscriber, "m1/state")["state"] == "ok"

    shutil.copy(installation.folder / "tiny.onnx", installation.folder / "next.new")
    (installation.folder / "next.new").replace(installation.folder / "next.onnx")

    wait_until(lambda: not refusals(subscriber), "the model that came later", PATIENCE_S)
    assert machine_health(last_heard(subscriber, "health"), "m1")["gaps"] == 0
    assert model() == before
    process.terminate()
    finish(process)
