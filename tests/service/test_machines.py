"""Several machines side by side, one of which fails in whatever way; without a daemon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeasd.capture import source as source_module
from edgeasd.capture.simulator.simulator import Simulator
from edgeasd.common.backoff import BackOff
from edgeasd.common.config.keys import (
    ClipsConfig,
    Config,
    MachineConfig,
    MicrophoneConfig,
    SimulatorConfig,
)
from edgeasd.detect.pipeline import Pipeline
from edgeasd.models.cache import Models
from edgeasd.models.detector import Detector
from edgeasd.publish.clips.recorder import Recorder
from edgeasd.publish.payloads.health import MachineHealth
from edgeasd.service import machines as machines_module
from edgeasd.service.machine import machine as machine_module
from edgeasd.service.machine.health import judge
from edgeasd.service.machine.listener import Listener
from edgeasd.service.machine.machine import Machine
from edgeasd.service.machine.reporter import Reporter
from edgeasd.service.machine.stopping import stop_all
from edgeasd.service.machines import Machines
from edgeasd.service.node import Node
from edgeasd.service.process.tasks import SPARE_TASKS, TasksLeft
from edgeasd.service.reload import Changes, plan
from tests.detect.models import make_model, normal_sound
from tests.publish.brokers import wait_until
from tests.service.test_listener import Notes, Recording, detector_of

pytestmark = pytest.mark.usefixtures("shared_trials")

PATIENCE_S = 60.0


@pytest.fixture
def site(tmp_path: Path) -> Config:
    """Two machines, of which one is called bad."""
    path = make_model(tmp_path / "tiny.onnx", clip_windows=4)
    source = SimulatorConfig(fault_duration_s=0.0)
    configs = tuple(MachineConfig(name, path, source=source) for name in ("good", "bad"))
    return Config(configs, node="n1", state_dir=tmp_path / "state")


@pytest.fixture
def machines(site: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """None yet, on a node that does not speak; what fails is begun anew quickly."""
    monkeypatch.setattr(machine_module, "BackOff", lambda: BackOff(0.1, 0.4))
    node = Node(site)
    machines = Machines(node, Models())
    yield machines
    machines.stop()
    node.outbox.close()


def all_of(site: Config) -> Changes:
    """Return the way from no machine to all of them."""
    return plan(replace(site, machine=()), site)


def look(machines: Machines) -> dict[str, MachineHealth]:
    """Do what the supervisor does at each turn, and return what it would tell."""
    machines.tend()
    machines.follow()
    machines.tell_states()
    return {health.name: health for health in machines.health()}


def in_its_thread(work: Callable[..., Any], *_: Any) -> bool:
    """Return whether the thread that listens to the bad machine is here."""
    del work
    return threading.current_thread().name == "listener-bad"


def on_its_object(work: Callable[..., Any], machine: Machine, *_: Any) -> bool:
    """Return whether this is about the bad machine."""
    del work
    return machine.config.name == "bad"


@pytest.mark.parametrize(
    ("owner", "name", "is_bad"),
    [
        (Simulator, "read", in_its_thread),
        (Recorder, "process", in_its_thread),
        (Pipeline, "process", in_its_thread),
        (Reporter, "scores", in_its_thread),
        (Machine, "follow", on_its_object),
        (Machine, "health", on_its_object),
        (Machine, "tell_state", on_its_object),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_error_of_one_machine_ends_its_listening_until_it_is_begun_anew(  # noqa: PLR0917
    machines: Machines,
    site: Config,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    is_bad: Callable[..., bool],
) -> None:
    """Wherever it is raised: the other goes on, it is told, counted, and mended by itself."""
    real = getattr(owner, name)

    def fail(*arguments: Any, **named: Any) -> Any:
        if is_bad(real, *arguments):
            raise KeyError("a defect")
        return real(*arguments, **named)

    machines.apply(all_of(site), lambda: True)
    bad = next(machine for machine in machines if machine.config.name == "bad")
    wait_until(lambda: bad.health().windows > 0, "windows of the bad one", PATIENCE_S)
    before = bad.health()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        seen = look(machines)
        wait_until(lambda: look(machines) and bad.facts().failure, "the failure", PATIENCE_S)
        failure = bad.facts().failure

    wait_until(lambda: look(machines)["bad"].state in {"learning", "ok"}, "recovery", PATIENCE_S)
    n_windows = bad.health().windows
    wait_until(lambda: bad.health().windows > n_windows, "windows again", PATIENCE_S)
    after = look(machines)
    assert failure == (
        "listening ended by an internal error (KeyError: 'a defect'); it begins anew, see the log"
    )
    assert after["bad"].restarts >= 1
    assert after["good"].restarts == 0
    assert after["good"].blocks > seen["good"].blocks
    assert after["good"].gaps == 0
    # Counts go on where they were.
    assert after["bad"].blocks > before.blocks
    assert after["bad"].windows > before.windows


def test_machine_whose_microphone_hangs_while_it_is_opened_keeps_no_other_from_starting(
    machines: Machines, site: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are heard, and it is told; once the microphone answers it is heard as well."""
    release, real = threading.Event(), source_module.open_source

    def open_source(config: Any, *arguments: Any) -> Any:
        if isinstance(config, MicrophoneConfig):
            release.wait(PATIENCE_S)
            config = SimulatorConfig(fault_duration_s=0.0)
        return real(config, *arguments)

    monkeypatch.setattr(source_module, "open_source", open_source)
    hanging = replace(site.machine[1], name="hanging", source=MicrophoneConfig())
    site = replace(site, machine=(hanging, site.machine[0]))

    machines.apply(all_of(site), lambda: True)
    wait_until(lambda: look(machines)["good"].windows > 0, "windows of the other", PATIENCE_S)
    told = look(machines)["hanging"]
    release.set()

    assert machines.refused == []
    assert (told.state, told.blocks) == ("no_audio", 0)
    assert told.reason == (
        "the microphone does not answer to being opened; reconnect it, or restart the sound server"
    )
    wait_until(lambda: look(machines)["hanging"].windows > 0, "windows of it", PATIENCE_S)


def test_counts_go_on_when_the_source_changes(machines: Machines, site: Config) -> None:
    """What subscribers draw as a curve never falls by a reload."""
    machines.apply(all_of(site), lambda: True)
    wait_until(lambda: look(machines)["bad"].windows > 0, "windows", PATIENCE_S)
    moved = replace(
        site.machine[1], source=SimulatorConfig(fault_duration_s=0.0, fault_after_s=9.0)
    )
    seen = look(machines)["bad"]

    machines.apply(plan(site, replace(site, machine=(site.machine[0], moved))), lambda: True)
    after = look(machines)["bad"]

    assert after.blocks >= seen.blocks
    assert after.windows >= seen.windows
    wait_until(lambda: look(machines)["bad"].windows > seen.windows, "more of them", PATIENCE_S)


def test_machine_that_fails_is_stale_with_the_reason_and_starves_no_watchdog(
    machines: Machines, site: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state says so for as long as it lasts, and a restart of the daemon is not asked for."""
    monkeypatch.setattr(machine_module, "BackOff", lambda: BackOff(3600.0, 3600.0))
    machines.apply(all_of(site), lambda: True)
    bad = next(machine for machine in machines if machine.config.name == "bad")

    bad.fail(ValueError("a defect"))
    wait_until(lambda: look(machines)["bad"].state == "stale", "stale", PATIENCE_S)

    assert "ValueError: a defect" in look(machines)["bad"].reason
    assert machines_module.Machines.ended.fget(machines) is False  # type: ignore[attr-defined]
    assert not bad.ended


def test_machines_beyond_the_limit_of_tasks_are_refused_and_used_once_there_is_room(
    machines: Machines, site: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are heard; the reason names the limit and where to raise it."""
    monkeypatch.setattr(machines_module, "_FIRST_RETRY_S", 0.1)
    n_free = SPARE_TASKS + 1
    monkeypatch.setattr(
        machines_module, "tasks_left", lambda: TasksLeft(n_free - len(machines), 128)
    )
    machines.apply(all_of(site), lambda: True)
    refused = machines.refused

    n_free += 1
    wait_until(lambda: look(machines) and not machines.refused, "both", PATIENCE_S)

    assert refused == [
        "machine 'bad': no more machines can be listened to with at most 128 threads and "
        "processes; raise TasksMax= of the service: sudo systemctl edit edgeasd"
    ]
    assert len(machines) == 2


@pytest.mark.parametrize(
    ("target", "name", "error"),
    [
        (Listener, "start", RuntimeError("can't start new thread")),
        (machine_module, "Listener", MemoryError("no memory")),
        (machine_module, "open_or_wait", OSError("a defect")),
        (Models, "load", PermissionError("a defect")),
    ],
)
def test_machine_that_cannot_be_begun_for_no_known_reason_is_tried_again(  # noqa: PLR0917
    machines: Machines,
    site: Config,
    monkeypatch: pytest.MonkeyPatch,
    target: Any,
    name: str,
    error: Exception,
) -> None:
    """It is refused with that reason, leaves nothing open, and is heard once it can be."""
    monkeypatch.setattr(machines_module, "_FIRST_RETRY_S", 0.1)
    opened: list[Any] = []
    real_open = source_module.open_or_wait

    def open_or_wait(*arguments: Any) -> Any:
        opened.append(real_open(*arguments))
        return opened[-1]

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(machine_module, "open_or_wait", open_or_wait)
        patch.setattr(target, name, fail)
        machines.apply(all_of(site), lambda: True)
        refused = machines.refused

    wait_until(lambda: look(machines) and not machines.refused, "both", PATIENCE_S)
    assert [str(error) in one for one in refused] == [True, True]
    assert all(source._closed for source in opened)
    assert len(machines) == 2


def test_error_at_the_end_of_listening_is_no_end_of_the_recording(tmp_path: Path) -> None:
    """What is raised while clips are completed ends nothing silently either."""
    recorder = Recorder(ClipsConfig(), 16_000, lambda _: None)
    recorder.finish = lambda: 1 / 0  # type: ignore[method-assign, assignment]
    detector = detector_of(make_model(tmp_path / "tiny.onnx"))
    source = Recording(normal_sound(16_000), 16_000)
    listener = Listener("m1", detector, source, Notes(detector), recorder=recorder)

    listener.start()
    wait_until(lambda: not listener.running, "the end", PATIENCE_S)

    assert isinstance(listener.error, ZeroDivisionError)


@pytest.mark.parametrize(("late_s", "state"), [(0.0, "learning"), (6.0, "stale")])
def test_sound_that_waits_for_a_slow_computer_is_late_and_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late_s: float, state: str
) -> None:
    """A thread that has no time to ask for sound says nothing of its source."""
    began, go_on = threading.Event(), threading.Event()

    def process(*_: Any) -> list[Any]:
        began.set()
        go_on.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(Pipeline, "process", process)
    source = Recording(normal_sound(16_000), 16_000)
    source.late_s = late_s
    detector = detector_of(make_model(tmp_path / "tiny.onnx"))
    listener = Listener("m1", detector, source, Notes(detector))
    listener.start()
    began.wait(PATIENCE_S)
    time.sleep(2.2)  # longer than a source may be silent
    facts = listener.facts()
    go_on.set()
    wait_until(lambda: not listener.running, "the end", PATIENCE_S)

    assert judge(facts)[0] == state
    assert facts.sound_age_s == 0.0


class Hanging:
    """A source that neither gives sound nor lets go for a while."""

    sample_rate = 16_000
    ended = False
    overruns = 0
    fault = ""
    hung = True
    late_s = 0.0
    drift_ppm = 0.0

    def __init__(self, hangs_s: float) -> None:
        self._hangs_s = hangs_s

    def read(self, timeout_s: float) -> None:
        """Take far longer than was asked for."""
        del timeout_s
        time.sleep(self._hangs_s)

    def close(self) -> None:
        """Take as long."""
        time.sleep(self._hangs_s)


@pytest.mark.parametrize("has_threads", [True, False])
def test_sixteen_sources_that_hang_are_stopped_in_the_time_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_threads: bool
) -> None:
    """They are let go of side by side; where there are no threads for it, one after the other."""
    hangs_s, n_sources = (2.0, 16) if has_threads else (0.1, 4)
    detector: Detector = detector_of(make_model(tmp_path / "tiny.onnx"))
    listeners = [
        Listener(f"m{n}", detector, Hanging(hangs_s), Notes(detector)) for n in range(n_sources)
    ]
    for listener in listeners:
        listener.start()
    if not has_threads:
        monkeypatch.setattr(threading.Thread, "start", _no_thread)

    began_s = time.monotonic()
    stop_all(listeners, 1.0)
    took_s = time.monotonic() - began_s

    assert took_s < hangs_s * n_sources / 2 + 2.0 * (not has_threads)
    wait_until(lambda: not any(one.running for one in listeners), "the end of all", PATIENCE_S)


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
