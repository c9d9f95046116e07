"""The daemon while it runs, and what goes wrong then: models, sources and threads that fail."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeasd.common.errors import ConfigError
from tests.detect.faulty_models import UNTRIED_DB, make_failing, make_stalling
from tests.detect.models import faulty_sound, make_model, normal_sound
from tests.installation import (
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
from tests.publish.brokers import Subscriber, wait_until

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("quick")]

UNIT = Path(__file__).parents[2] / "systemd" / "edgeasd.service"


def replace_model(installation: Installation, new: Path) -> None:
    """Have *new* as the model of the installation, at once."""
    new.replace(installation.folder / "tiny.onnx")


def model_fault(subscriber: Subscriber) -> str:
    """Return what health says of the model of m1."""
    found: str = machine_health(last_heard(subscriber, "health"), "m1").get("model_fault", "")
    return found


def wait_for_more_scores(subscriber: Subscriber, n_more: int) -> None:
    """Wait until m1 has published that many scores more."""
    before = len(subscriber.on(f"{NODE}/m1/score"))
    wait_until(
        lambda: len(subscriber.on(f"{NODE}/m1/score")) >= before + n_more, "more scores of m1"
    )


def test_model_that_fails_on_sound_is_refused_and_the_old_one_goes_on(
    installation: Installation, subscriber: Subscriber
) -> None:
    """A file that is well until it hears the machine ends neither the old model nor the daemon."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score")

    new = make_model(installation.folder / "new.onnx", clip_windows=4, seed=7)
    make_failing(new, UNTRIED_DB)
    replace_model(installation, new)

    wait_until(lambda: model_fault(subscriber), "the fault in the health message")
    assert "output is not finite" in model_fault(subscriber)
    assert "the model loaded before is used" in model_fault(subscriber)
    wait_for_more_scores(subscriber, 3)
    installation.configure(PACED + SENSITIVE)
    reload(process)
    wait_until(lambda: events(subscriber), "the alarm by a new threshold")
    assert machine_health(last_heard(subscriber, "health"), "m1")["gaps"] == 0
    process.terminate()
    assert finish(process).count("the model loaded before is used") == 1
    subscriber.close()


def test_model_that_fails_on_sound_from_the_start_is_told_until_it_is_replaced(
    installation: Installation, subscriber: Subscriber
) -> None:
    """The machine is ``stale`` with the reason; the other is heard, and the daemon stays."""
    good = installation.folder / "good.onnx"
    good.write_bytes((installation.folder / "tiny.onnx").read_bytes())
    make_failing(installation.folder / "tiny.onnx", UNTRIED_DB)
    installation.configure(PACED, PACED)
    installation.config.write_text(
        installation.config.read_text().replace("tiny.onnx", "good.onnx", 1)
    )
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m2/state").get("state") == "stale", "stale")
    wait_for_more_scores(subscriber, 3)

    assert "output is not finite" in last_heard(subscriber, "m2/state")["reason"]
    replace_model(installation, good)
    wait_until(lambda: last_heard(subscriber, "m2/state")["state"] == "ok", "ok")
    process.terminate()
    assert finish(process).count("m2: stale") == 1
    subscriber.close()


def test_reload_waits_for_no_model_that_never_returns(
    installation: Installation, subscriber: Subscriber, tmp_path: Path
) -> None:
    """While a machine's model is tried the watchdog is fed; then the machine alone is refused."""
    installation.configure(PACED)
    make_stalling(make_model(installation.folder / "lost.onnx", clip_windows=4))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = installation.start(
            NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000"
        )
        assert manager.recv(1024).startswith(b"READY=1\n")

        installation.configure(
            PACED, SIMULATOR.replace("[machine.sim", 'section = "00"\n[machine.sim')
        )
        text = installation.config.read_text().replace('tiny.onnx"\nsection', 'lost.onnx"\nsection')
        installation.config.write_text(text)
        reload(process)
        told: list[str] = []
        while not told or not told[-1].startswith("READY=1\n"):
            told.append(manager.recv(1024).decode())

    (began,) = [place for place, words in enumerate(told) if words.startswith("RELOADING=1")]
    assert told[began + 1 : -1].count("WATCHDOG=1") > 3
    wait_until(lambda: not last_heard(subscriber, "health")["configuration"]["ok"], "the refusal")
    (refused,) = last_heard(subscriber, "health")["configuration"]["refused"]
    assert refused.startswith("machine 'm2': ")
    assert "does not come to an end" in refused
    assert machine_health(last_heard(subscriber, "health"), "m1")["gaps"] == 0
    process.terminate()
    finish(process)
    subscriber.close()


@pytest.mark.slow
def test_alarm_settings_apply_though_the_model_file_is_broken(
    installation: Installation, subscriber: Subscriber
) -> None:
    """A threshold that is needed now does not wait for a model that somebody else spoiled."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score")
    (installation.folder / "tiny.onnx").write_bytes(b"no model")
    wait_until(lambda: model_fault(subscriber), "the fault in the health message")

    installation.configure(PACED + SENSITIVE)
    reload(process)

    wait_until(lambda: events(subscriber), "the alarm by the new threshold")
    assert last_heard(subscriber, "health")["configuration"]["ok"]
    assert model_fault(subscriber) != ""
    process.terminate()
    finish(process)
    subscriber.close()


@pytest.mark.slow
def test_source_that_cannot_be_used_leaves_the_one_before(
    installation: Installation, subscriber: Subscriber
) -> None:
    """A wrong path is refused in health, and the machine is heard as before."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score")

    installation.configure(PACED.replace("long", "missing"))
    reload(process)

    wait_until(lambda: not last_heard(subscriber, "health")["configuration"]["ok"], "the refusal")
    assert "missing.wav" in last_heard(subscriber, "health")["configuration"]["refused"][0]
    wait_for_more_scores(subscriber, 2)
    process.terminate()
    finish(process)
    subscriber.close()


def test_machine_with_no_source_left_is_told_and_heard_again(
    installation: Installation, subscriber: Subscriber
) -> None:
    """Neither the new source nor the old one is there: the daemon says so, and tries again."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score")

    (installation.folder / "long.wav").rename(installation.folder / "away.wav")
    installation.configure(PACED.replace("long", "missing"))
    reload(process)

    wait_until(lambda: last_heard(subscriber, "m1/state")["state"] == "no_audio", "no_audio")
    assert "long.wav" in last_heard(subscriber, "m1/state")["reason"]
    (installation.folder / "away.wav").rename(installation.folder / "long.wav")
    wait_for_more_scores(subscriber, 2)
    wait_until(lambda: last_heard(subscriber, "m1/state")["state"] == "ok", "ok again")
    process.terminate()
    finish(process)
    subscriber.close()


def test_daemon_whose_only_machine_was_refused_waits_for_it(
    installation: Installation, subscriber: Subscriber
) -> None:
    """A new name and a wrong path leave no machine at all: the daemon says why, and stays."""
    installation.configure(PACED)
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "health"), "the health of the node")
    good = installation.config.read_text().replace('"m1"', '"m9"')

    installation.config.write_text(good.replace("tiny.onnx", "missing.onnx"))
    reload(process)

    wait_until(lambda: not last_heard(subscriber, "health")["configuration"]["ok"], "the refusal")
    wait_until(lambda: subscriber.on(f"{NODE}/m1/state")[-1] == b"", "m1 to be cleared")
    installation.config.write_text(good)
    reload(process)
    wait_until(lambda: last_heard(subscriber, "m9/state"), "a state of m9")
    process.terminate()
    finish(process)
    subscriber.close()


@pytest.mark.slow
def test_machine_that_is_gone_at_the_next_start_leaves_no_state(
    installation: Installation, subscriber: Subscriber
) -> None:
    """A machine that never had an alarm, removed while the daemon is down, is cleared as well."""
    installation.configure(SIMULATOR, SIMULATOR)
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m2/state"), "a state of m2")
    process.terminate()
    finish(process)

    installation.configure(SIMULATOR)
    process = installation.start()

    wait_until(lambda: subscriber.on(f"{NODE}/m2/state")[-1] == b"", "m2 to be cleared")
    process.terminate()
    finish(process)
    subscriber.close()


@pytest.mark.slow
def test_reload_of_intervals_keeps_the_connection(
    installation: Installation, subscriber: Subscriber
) -> None:
    """How often scores and health come changes at once, without a word of ``offline``."""
    installation.configure(PACED, mqtt="score_interval_s = 30")
    process = installation.start()
    wait_until(lambda: last_heard(subscriber, "m1/score"), "a score")

    installation.configure(PACED)
    reload(process)

    wait_for_more_scores(subscriber, 2)
    assert subscriber.on(f"{NODE}/availability") == [b"online"]
    process.terminate()
    finish(process)
    subscriber.close()


def test_error_at_the_start_has_its_severity_in_the_journal(installation: Installation) -> None:
    """What keeps the daemon from starting is found by ``journalctl --priority err``."""
    exit_code, line = installation.run_for_journal()

    assert exit_code == ConfigError.exit_code
    assert line.startswith("<3>edgeasd: ")
    assert line.count("\n") == 1


@pytest.mark.slow
def test_network_that_is_lost_in_a_window_costs_its_machine_alone(
    installation: Installation, subscriber: Subscriber, tmp_path: Path
) -> None:
    """It is told as ``stale`` and ended, again and again; the watchdog is fed, the other heard."""
    make_stalling(installation.folder / "tiny.onnx", loudest_db=(20.0, 30.0))
    sound = [normal_sound(5 * RATE, 5), 3.0 * faulty_sound(60 * RATE, 6)]
    soundfile.write(installation.folder / "fault.wav", np.concatenate(sound), RATE)
    installation.configure(
        '[machine.file]\npath = "fault.wav"', PACED, mqtt="health_interval_s = 1"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = installation.start(
            NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000"
        )
        assert manager.recv(1024).startswith(b"READY=1\n")
        reasons = set()
        end_s = time.monotonic() + 30.0
        while time.monotonic() < end_s:
            assert manager.recv(1024) == b"WATCHDOG=1"
            reasons.add(last_heard(subscriber, "m1/state").get("reason", ""))

    assert "the scorer does not return" in reasons
    assert any("(it does not come to an end)" in reason for reason in reasons)
    assert last_heard(subscriber, "m2/state")["state"] == "ok"
    n_scores = len(subscriber.on(f"{NODE}/m2/score"))
    wait_until(lambda: len(subscriber.on(f"{NODE}/m2/score")) > n_scores, "scores of m2")
    process.terminate()
    finish(process)
    subscriber.close()


@pytest.mark.slow
def test_alarm_that_outlives_five_kills_has_one_start_and_one_end(
    installation: Installation, subscriber: Subscriber
) -> None:
    """However often the daemon dies while the alarm lasts, it is one alarm, and time goes on."""
    alarm = "\n[machine.alarm]\nupdate_every_s = 1"
    sound = [normal_sound(6 * RATE, 5), faulty_sound(120 * RATE, 6)]
    soundfile.write(installation.folder / "fault.wav", np.concatenate(sound), RATE)
    installation.configure('[machine.file]\npath = "fault.wav"' + alarm)
    for _ in range(5):
        n_events = len(events(subscriber))
        process = installation.start()
        wait_until(lambda n=n_events: len(events(subscriber)) > n, "an event", 60.0)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60.0)

    installation.configure(PACED + alarm)
    process = installation.start()
    wait_until(lambda: events(subscriber)[-1]["type"] == "end", "the end", 60.0)
    process.terminate()
    finish(process)

    told = {event["id"]: event for event in events(subscriber)}.values()
    types = [event["type"] for event in told]
    assert (types[0], types[-1]) == ("start", "end")
    assert set(types[1:-1]) == {"update"}
    durations_s = [event["duration_s"] for event in told]
    assert durations_s == sorted(durations_s)
    lasted_s = (events(subscriber)[-1]["time_ms"] - events(subscriber)[0]["time_ms"]) / 1000
    assert durations_s[-1] == pytest.approx(lasted_s, abs=5.0)
    states = [json.loads(one)["state"] for one in subscriber.on(f"{NODE}/m1/state") if one]
    print(f"{len(types)} events, {durations_s[-1]:.1f} s by the events, {lasted_s:.1f} s by clock")
    assert states[-1] == "ok"
    subscriber.close()


@pytest.mark.slow
def test_reload_and_stop_of_many_machines_keep_to_the_times_of_the_unit(
    installation: Installation, tmp_path: Path
) -> None:
    """Each of 64 goes over to another source, then all stop: neither takes a time for each."""
    unit = UNIT.read_text()
    stop_s = float(unit.partition("TimeoutStopSec=")[2].split()[0])
    installation.configure(*64 * [SIMULATOR])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(120)
        process = installation.start(
            NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="15000000"
        )
        while not manager.recv(1024).startswith(b"READY=1\n"):
            pass

        installation.configure(*64 * [f"{SIMULATOR}\nseed = 7"])
        began_s = time.monotonic()
        reload(process)
        while not manager.recv(1024).startswith(b"READY=1\nSTATUS=listening to 64 machines"):
            pass
        reloaded_s = time.monotonic() - began_s
        process.terminate()
        finish(process)
        stopped_s = time.monotonic() - began_s - reloaded_s

    print(f"64 machines: reloaded in {reloaded_s:.1f} s, stopped in {stopped_s:.1f} s")
    assert max(reloaded_s, stopped_s) < stop_s
