"""The daemon while it runs: new configuration, new model, a restart in the middle of an alarm."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.detect.models import faulty_sound, make_model, normal_sound
from tests.installation import (
    FILE,
    NODE,
    PACED,
    RATE,
    SENSITIVE,
    SIMULATOR,
    Installation,
    events,
    finish,
    last_heard,
    machine_health,
    reload,
)
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("quick")]

HOP = 8 * 512  # samples between two scores


@pytest.fixture
def heard(subscriber: Subscriber) -> Callable[[str], dict[str, Any]]:
    """Returns what was last heard on a topic of the node."""
    return lambda topic: last_heard(subscriber, topic)


def test_reload_adds_and_removes_machines_and_leaves_the_others_alone(
    installation: Installation, subscriber: Subscriber, heard: Callable[[str], dict[str, Any]]
) -> None:
    """One machine goes, one comes, and the one that stays has no gap and keeps its counts."""
    installation.configure(PACED, SIMULATOR, mqtt="health_interval_s = 1")
    process = installation.start()
    wait_until(lambda: heard("m1/score"), "a score of m1")
    blocks = machine_health(heard("health"), "m1")["blocks"]

    text = installation.config.read_text().replace('name = "m2"', 'name = "m3"')
    installation.config.write_text(text)
    reload(process)

    wait_until(lambda: heard("m3/state"), "a state of m3")
    wait_until(lambda: machine_health(heard("health"), "m3"), "m3 in the health message")
    health = heard("health")
    assert machine_health(health, "m2") == {}
    assert subscriber.on(f"{NODE}/m2/state")[-1] == b""
    assert machine_health(health, "m1")["blocks"] > blocks
    assert machine_health(health, "m1")["gaps"] == 0
    assert health["configuration"] == {"ok": True, "refused": []}
    process.terminate()
    finish(process)
    assert_scores_without_gap(subscriber, installation)
    subscriber.close()


def test_reload_of_a_broken_file_changes_nothing(
    installation: Installation, subscriber: Subscriber, heard: Callable[[str], dict[str, Any]]
) -> None:
    """What cannot be read is refused in log and health; the daemon goes on, and reads it mended."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: heard("health"), "the health of the node")
    good = installation.config.read_text()

    installation.config.write_text(good.replace("port =", "prot ="))
    reload(process)

    wait_until(lambda: heard("health")["configuration"]["refused"], "the refusal")
    assert "did you mean 'port'?" in heard("health")["configuration"]["refused"][0]
    installation.config.write_text(good)
    reload(process)
    wait_until(lambda: heard("health")["configuration"]["ok"], "the mended file")
    process.terminate()
    assert "nothing of it is applied" in finish(process)
    subscriber.close()


def test_reload_applies_what_is_valid_and_refuses_the_rest(
    installation: Installation, subscriber: Subscriber, heard: Callable[[str], dict[str, Any]]
) -> None:
    """A threshold is applied though the state directory and another machine's model are not."""
    installation.configure(PACED, SIMULATOR)
    process = installation.start()
    wait_until(lambda: heard("m1/score"), "a score of m1")

    installation.configure(
        PACED + SENSITIVE, SIMULATOR.replace("[machine.sim", 'section = "99"\n[machine.sim')
    )
    installation.config.write_text(
        installation.config.read_text().replace('"state"', '"elsewhere"')
    )
    reload(process)

    wait_until(lambda: events(subscriber), "the alarm by the new threshold")
    assert events(subscriber)[0]["threshold"] == -1e9
    wait_until(lambda: len(heard("health")["configuration"]["refused"]) == 2, "two refusals")
    refused = heard("health")["configuration"]["refused"]
    assert refused[0] == "state_dir has changed, which needs a restart"
    assert "machine 'm2'" in refused[1]
    assert machine_health(heard("health"), "m1")["gaps"] == 0
    process.terminate()
    finish(process)
    subscriber.close()


def test_reload_goes_over_to_another_broker(
    installation: Installation,
    subscriber: Subscriber,
    heard: Callable[[str], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """The old broker hears ``offline``, the new one all that is retained."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: heard("m1/state"), "a state of m1")
    other = Mosquitto(tmp_path / "other")
    other.start()
    try:
        there = Subscriber(other.port)
        installation.port = other.port
        installation.configure(PACED)
        reload(process)

        there.wait_for(f"{NODE}/availability", b"online")
        subscriber.wait_for(f"{NODE}/availability", b"offline")
        wait_until(lambda: there.on(f"{NODE}/m1/state"), "the state at the new broker")
        process.terminate()
        finish(process)
        there.close()
    finally:
        other.stop()
    subscriber.close()


def test_changed_model_takes_over_without_a_gap(
    installation: Installation, subscriber: Subscriber, heard: Callable[[str], dict[str, Any]]
) -> None:
    """A new model file runs beside the old one until it can score; no sound is lost."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: heard("m1/score"), "a score of the old model")
    old = machine_health(heard("health"), "m1")["model"]["sha256"]

    make_model(installation.folder / "new.onnx", clip_windows=4, seed=7)
    (installation.folder / "new.onnx").replace(installation.folder / "tiny.onnx")

    def new_model() -> bool:
        model = machine_health(heard("health"), "m1").get("model", {})
        return model.get("sha256") not in {None, old}

    wait_until(new_model, "the new model in the health message", 60.0)
    n_scores = len(subscriber.on(f"{NODE}/m1/score"))
    wait_until(lambda: len(subscriber.on(f"{NODE}/m1/score")) > n_scores + 2, "scores go on")
    process.terminate()
    finish(process)
    assert_scores_without_gap(subscriber, installation, last_only=True)
    subscriber.close()


def test_broken_model_is_refused_and_the_old_one_goes_on(
    installation: Installation, subscriber: Subscriber, heard: Callable[[str], dict[str, Any]]
) -> None:
    """A file that is no model is told in health, once in the log, and not used."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: heard("m1/score"), "a score")

    (installation.folder / "tiny.onnx").write_bytes(b"no model")

    def fault() -> str:
        found: str = machine_health(heard("health"), "m1").get("model_fault", "")
        return found

    wait_until(fault, "the fault in the health message")
    assert "the model loaded before is used" in fault()
    n_scores = len(subscriber.on(f"{NODE}/m1/score"))
    wait_until(lambda: len(subscriber.on(f"{NODE}/m1/score")) > n_scores + 2, "scores go on")
    make_model(installation.folder / "tiny.onnx", clip_windows=4)
    wait_until(lambda: not fault(), "the mended file")
    process.terminate()
    assert finish(process).count("the model loaded before is used") == 1
    subscriber.close()


def test_alarm_raised_when_the_daemon_was_killed_gets_its_end_after_the_restart(
    installation: Installation, subscriber: Subscriber
) -> None:
    """The next run says ``alarm`` at once, with the event of the first, and then one ``end``."""
    sound = [normal_sound(6 * RATE, 5), faulty_sound(120 * RATE, 6)]
    soundfile.write(installation.folder / "fault.wav", np.concatenate(sound), RATE)
    installation.configure('[machine.file]\npath = "fault.wav"')
    process = installation.start()
    wait_until(lambda: events(subscriber), "the start", 60.0)
    process.kill()
    process.wait(timeout=60.0)
    (start,) = events(subscriber)
    wait_until(subscriber.is_idle, "all that the first run sent")
    n_before = len(subscriber.on(f"{NODE}/m1/state"))

    # In real time: of a file over before the connection stands, only the last state is sent.
    installation.configure(PACED)
    process = installation.start()

    # The start comes twice, under one id, if the kill was faster than its acknowledgement.
    wait_until(lambda: len({event["id"] for event in events(subscriber)}) == 2, "the end", 60.0)
    process.terminate()
    finish(process)
    states = [json.loads(payload) for payload in subscriber.on(f"{NODE}/m1/state")[n_before:]]
    assert (states[0]["state"], states[0]["event_id"]) == ("alarm", start["id"])
    end = events(subscriber)[-1]
    assert end["type"] == "end"
    assert end["boot_id"] != start["boot_id"]
    assert end["duration_s"] > 0.0
    subscriber.close()


def test_alarm_of_a_machine_that_was_removed_gets_its_end(
    installation: Installation, subscriber: Subscriber
) -> None:
    """Whether it goes by a reload or before the next start, its alarm does not last for ever."""
    installation.configure(PACED + SENSITIVE, PACED + SENSITIVE, PACED)
    process = installation.start()
    for name in ("m1", "m2"):
        wait_until(lambda name=name: events(subscriber, name), f"the start of {name}")  # type: ignore[misc]

    text = installation.config.read_text()
    installation.config.write_text(
        text.replace('name = "m1"', 'name = "m4"').replace(SENSITIVE, "")
    )
    reload(process)

    wait_until(lambda: len(events(subscriber, "m1")) == 2, "the end of m1")
    process.terminate()
    finish(process)
    installation.configure(FILE.replace("sound.wav", "long.wav"))
    finish(installation.start())
    wait_until(lambda: events(subscriber, "m2")[-1]["type"] == "end", "the end of m2")
    assert [event["type"] for event in events(subscriber, "m1")] == ["start", "end"]
    subscriber.close()


@pytest.mark.slow
def test_alarm_of_another_base_or_node_gets_its_end_after_the_restart(
    installation: Installation, subscriber: Subscriber, heard: Callable[[str], dict[str, Any]]
) -> None:
    """Other topics need a restart; it ends on the old ones what was raised there."""
    installation.configure(PACED + SENSITIVE)
    process = installation.start()
    wait_until(lambda: events(subscriber), "the start")

    installation.configure(PACED + SENSITIVE, mqtt='base = "hall"\nkeepalive_s = 5')
    reload(process)
    wait_until(lambda: heard("health")["configuration"]["refused"], "the refusal")
    process.terminate()
    finish(process)
    installation.config.write_text(installation.config.read_text().replace('"n1"', '"n2"'))
    process = installation.start()

    other = "hall/edgeasd/v1/n2/m1/event"
    wait_until(lambda: len(events(subscriber)) == 2, "the end on the old topic")
    wait_until(lambda: subscriber.on(other), "the start on the new one")
    assert heard("health")["configuration"]["refused"] == [
        "mqtt.base has changed, which needs a restart; [mqtt] stays as it is"
    ]
    assert [event["type"] for event in events(subscriber)] == ["start", "end"]
    assert json.loads(subscriber.on(other)[0])["type"] == "start"
    assert subscriber.on(f"{NODE}/m1/state")[-1] == b""
    process.terminate()
    finish(process)
    subscriber.close()


def test_log_of_the_journal_has_priorities(installation: Installation) -> None:
    """When standard error is the journal's socket, each line begins with its severity."""
    installation.configure(FILE)
    installation.port = 1

    exit_code, log = installation.run_for_journal()

    lines = log.splitlines()
    assert exit_code == 0
    assert all(line[:3] in {"<3>", "<4>", "<6>"} for line in lines)
    assert any(line.startswith("<4>edgeasd.service.machine.reporter: m1: alarm") for line in lines)


def assert_scores_without_gap(
    subscriber: Subscriber, installation: Installation, *, last_only: bool = False
) -> None:
    """Check that the published scores of m1 follow each other, and are those of a replay.

    Args:
        subscriber: Has heard them.
        installation: Where they were made.
        last_only: Whether another model made those before the last two.  Its windows began with
            the recording; those of the model now in the file when it was loaded.
    """
    published = [json.loads(payload) for payload in subscriber.on(f"{NODE}/m1/score")]
    compared = published[-2:] if last_only else published
    offset = compared[0]["first_sample"] % HOP
    samples, _ = soundfile.read(installation.folder / "long.wav", dtype="int16")
    soundfile.write(installation.folder / "replayed.wav", samples[offset:], RATE)
    rows = {
        row["first_sample"] + offset: row["score"] for row in installation.score("replayed.wav")
    }
    assert [one["score"] for one in compared] == [rows[one["first_sample"]] for one in compared]
    for before, after in pairwise(compared):
        assert after["first_sample"] - before["first_sample"] == HOP * after["n_scores"]
