"""The daemon on real sound systems that fail: what it publishes, and how soon."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeasd.common.types import Int16Array
from tests.capture.sound_servers import (
    JACK_RATE,
    jack_environment,
    jackd,
    pulse_control,
    pulse_environment,
    pulseaudio,
)
from tests.capture.virtual_microphone import DEVICE, VirtualMicrophone
from tests.detect.models import normal_sound
from tests.installation import NODE, RATE, Installation, finish, reload
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

pytestmark = [
    pytest.mark.audio_device,
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("pulseaudio") is None, reason="needs Debian's pulseaudio"),
    pytest.mark.skipif(shutil.which("jackd") is None, reason="needs Debian's jackd2"),
]

EX_TEMPFAIL = 75
HEALTH_EACH_SECOND = "health_interval_s = 1.0"
PULSE = '[machine.microphone]\ndevice = "pulse"\nsample_rate = 16000'
ALSA = f'[machine.microphone]\ndevice = "{DEVICE}"\nsample_rate = 16000'
JACK = '[machine.microphone]\ndevice = "jack"'


class Watch:
    """What a subscriber sees of one daemon."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    def wait_for(
        self,
        fits: Callable[[dict[str, Any]], bool],
        since_s: float,
        topic: str = "m1/state",
        deadline_s: float = 60.0,
    ) -> tuple[float, dict[str, Any]]:
        """Return how long after *since_s* the first payload came that *fits*, and the payload."""

        def found() -> list[tuple[float, dict[str, Any]]]:
            return [
                (message.received_s - since_s, message.json)
                for message in list(self._subscriber.messages)
                if message.topic == f"{NODE}/{topic}"
                and message.received_s >= since_s
                and fits(message.json)
            ]

        wait_until(found, f"{topic} fits", deadline_s)
        return found()[0]

    def state(self, state: str, since_s: float, machine: str = "m1") -> tuple[float, str]:
        """Return how long after *since_s* the machine was said to be in *state*, and why."""
        after_s, payload = self.wait_for(
            lambda payload: payload["state"] == state, since_s, f"{machine}/state"
        )
        return after_s, payload["reason"]

    def offline(self, since_s: float) -> float:
        """Return how long after *since_s* the daemon was said to be offline."""
        topic = f"{NODE}/availability"
        return self._subscriber.wait_for(topic, b"offline").received_s - since_s


def report(fault: str, state: str, notice_s: float, recover_s: float) -> None:
    """Print a row of the table of faults."""
    print(f"| {fault} | {state} | {notice_s:.1f} | {recover_s:.1f} |")


def sound(duration_s: int) -> Int16Array:
    """Return the sound of a healthy machine."""
    return (32_768 * normal_sound(duration_s * RATE)).astype(np.int16)


@contextmanager
def played(folder: Path) -> Iterator[None]:
    """Play the sound of a healthy machine into the hall of the PulseAudio server."""
    (folder / "played.raw").write_bytes(sound(60).tobytes())
    command = ["pacat", "--playback", "--raw", "--device=hall", f"--rate={RATE}", "--channels=1"]
    with (
        (folder / "played.raw").open("rb") as file,
        subprocess.Popen(
            [*command, "--format=s16le"],
            stdin=file,
            stderr=subprocess.DEVNULL,
            env=os.environ | pulse_environment(folder) | {"HOME": str(folder)},
        ) as player,
    ):
        try:
            yield
        finally:
            player.kill()


@pytest.fixture
def watch(broker: Mosquitto) -> Iterator[Watch]:
    """A subscriber of a broker that runs."""
    broker.start()
    subscriber = Subscriber(broker.port)
    yield Watch(subscriber)
    subscriber.close()


def listens(payload: dict[str, Any]) -> bool:
    """Return whether the state is that of a machine that is heard."""
    return payload["state"] in {"ok", "learning", "flat_signal"}


def hears(payload: dict[str, Any]) -> bool:
    """Return whether by its health the daemon has a second of sound of every machine."""
    return all(machine["blocks"] > 32 for machine in payload["machines"])


@pytest.mark.slow
def test_daemon_whose_device_hangs_leaves_for_a_restart(
    installation: Installation, watch: Watch, alsa: VirtualMicrophone
) -> None:
    """A stuck device is told after two seconds; after ten the daemon says offline and exits 75."""
    installation.configure(ALSA, mqtt=HEALTH_EACH_SECOND)
    process = installation.start(**alsa.environment)
    alsa.feed(sound(60))
    watch.wait_for(hears, 0.0, "health")

    alsa.pause()
    stalled_s = time.monotonic()
    notice_s, _ = watch.state("no_audio", stalled_s)
    _, log = process.communicate(timeout=60)
    left_s = time.monotonic() - stalled_s
    offline_s = watch.offline(stalled_s)
    _, last = watch.wait_for(lambda payload: "reconnect it" in payload["reason"], stalled_s)
    alsa.resume()
    again_s = time.monotonic()
    installation.start(**alsa.environment)
    recover_s, _ = watch.wait_for(hears, again_s, "health")

    report(f"ALSA pipe stalls for {left_s:.0f} s: daemon exits 75", "no_audio", notice_s, recover_s)
    assert process.returncode == EX_TEMPFAIL, log
    assert last["state"] == "no_audio"
    assert last["reason"] == "microphone 'vmic' is open but gives no sound; reconnect it"
    assert log.splitlines()[-1] == f"edgeasd: machine 'm1': {last['reason']}; leaving for a restart"
    assert offline_s <= left_s
    assert 2.0 < notice_s < 6.0
    assert 10.0 < left_s < 25.0


def test_daemon_of_two_channels_of_one_device_hears_them_apart(
    installation: Installation, watch: Watch, tmp_path: Path
) -> None:
    """Machines on two channels of one device share it, and each hears its own."""
    installation.configure(f"{ALSA}\nchannel = 1", f"{ALSA}\nchannel = 0", mqtt=HEALTH_EACH_SECOND)
    folder = tmp_path / "two"
    folder.mkdir()
    loud = sound(60)
    with VirtualMicrophone(folder, n_channels=2) as microphone:
        installation.start(**microphone.environment)
        microphone.feed(np.stack((loud // 4, loud), axis=1).ravel())
        _, health = watch.wait_for(hears, 0.0, "health")

    first, second = (machine["level_dbfs"] for machine in health["machines"])
    assert first - second == pytest.approx(20 * math.log10(4), abs=1.0)
    assert [machine["gaps"] for machine in health["machines"]] == [0, 0]


@pytest.mark.slow
def test_daemon_whose_device_and_broker_hang_leaves_all_the_same(
    installation: Installation, watch: Watch, broker: Mosquitto, alsa: VirtualMicrophone
) -> None:
    """A broker that takes no last words does not keep the daemon."""
    installation.configure(ALSA, mqtt=HEALTH_EACH_SECOND)
    process = installation.start(**alsa.environment)
    alsa.feed(sound(60))
    watch.wait_for(hears, 0.0, "health")

    alsa.pause()
    broker.hang()
    stalled_s = time.monotonic()
    process.communicate(timeout=60)
    left_s = time.monotonic() - stalled_s
    broker.resume()

    report("ALSA pipe stalls, broker SIGSTOP", f"exit {process.returncode}", left_s, math.nan)
    assert process.returncode == EX_TEMPFAIL
    assert left_s < 30.0


@pytest.mark.slow
def test_daemon_of_a_device_500_ppm_fast_says_so(
    installation: Installation, watch: Watch, tmp_path: Path
) -> None:
    """The drift is known after two minutes, within some millionths."""
    installation.configure(ALSA, mqtt=HEALTH_EACH_SECOND)
    folder = tmp_path / "fast"
    folder.mkdir()
    with VirtualMicrophone(folder, drift_ppm=500.0) as microphone:
        installation.start(**microphone.environment)
        began_s = time.monotonic()
        microphone.feed(sound(200))
        known_s, health = watch.wait_for(
            lambda payload: payload["machines"][0]["drift_ppm"] is not None,
            began_s,
            "health",
            deadline_s=200.0,
        )

    (machine,) = health["machines"]
    print(f"500 ppm fast: {machine['drift_ppm']:.1f} ppm after {known_s:.0f} s")
    assert machine["drift_ppm"] == pytest.approx(500.0, abs=50.0)
    assert machine["gaps"] == 0


@pytest.mark.slow
def test_daemon_whose_alsa_device_stalls_says_no_audio_and_goes_on(
    installation: Installation, watch: Watch, alsa: VirtualMicrophone
) -> None:
    """A device that stands still for five seconds is no reason to restart."""
    installation.configure(ALSA, mqtt=HEALTH_EACH_SECOND)
    process = installation.start(**alsa.environment)
    alsa.feed(sound(90))
    watch.wait_for(hears, 0.0, "health")

    alsa.pause()
    stalled_s = time.monotonic()
    notice_s, _ = watch.state("no_audio", stalled_s)
    time.sleep(max(0.0, 5.0 - notice_s))
    alsa.resume()
    recover_s, _ = watch.wait_for(listens, time.monotonic())

    report("ALSA pipe stalls for 5 s", "no_audio", notice_s, recover_s)
    assert notice_s < 6.0
    assert recover_s < 6.0
    assert process.poll() is None


@pytest.mark.slow
def test_daemon_whose_pulseaudio_is_killed_says_no_audio_until_it_is_back(
    installation: Installation, watch: Watch, tmp_path: Path
) -> None:
    """The loss is told at once, and the sound found again soon after the server is back."""
    installation.configure(PULSE, mqtt=HEALTH_EACH_SECOND)
    with ExitStack() as stack:
        server = stack.enter_context(pulseaudio(tmp_path))
        process = installation.start(**pulse_environment(tmp_path))
        watch.wait_for(hears, 0.0, "health")

        server.kill()
        killed_s = time.monotonic()
        notice_s, reason = watch.state("no_audio", killed_s)
        watch.wait_for(lambda payload: "no microphone is there" in payload["reason"], killed_s)
        stack.enter_context(pulseaudio(tmp_path))
        back_s = time.monotonic()
        recover_s, _ = watch.wait_for(listens, back_s)

    report("PulseAudio killed and back", "no_audio", notice_s, recover_s)
    assert reason.startswith("microphone 'pulse' was lost")
    assert notice_s < 5.0
    assert recover_s < 15.0
    assert process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("stopped_s", [5.0, 30.0])
def test_daemon_whose_pulseaudio_stands_still(
    installation: Installation, watch: Watch, tmp_path: Path, stopped_s: float
) -> None:
    """A server that hangs for long ends the daemon, which is started again as systemd does."""
    installation.configure(PULSE, mqtt=HEALTH_EACH_SECOND)
    with pulseaudio(tmp_path) as server:
        process = installation.start(**pulse_environment(tmp_path))
        watch.wait_for(hears, 0.0, "health")

        server.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        notice_s, _ = watch.state("no_audio", began_s)
        if stopped_s > 10.0:
            process.wait(timeout=60)
            installation.start(**pulse_environment(tmp_path))
        time.sleep(max(0.0, began_s + stopped_s - time.monotonic()))
        server.send_signal(signal.SIGCONT)
        back_s = time.monotonic()
        recover_s, _ = (
            watch.wait_for(hears, back_s, "health")
            if stopped_s > 10.0
            else watch.wait_for(listens, back_s)
        )

    report(f"PulseAudio SIGSTOP for {stopped_s:.0f} s", "no_audio", notice_s, recover_s)
    assert process.poll() == (EX_TEMPFAIL if stopped_s > 10.0 else None)
    assert notice_s < 6.0
    assert recover_s < 20.0


@pytest.mark.slow
def test_daemon_moved_to_another_source_says_flat_signal(
    installation: Installation, watch: Watch, tmp_path: Path
) -> None:
    """PulseAudio moves a stream whose source goes; the silence of the other source is told."""
    installation.configure(PULSE, mqtt=HEALTH_EACH_SECOND)
    with pulseaudio(tmp_path), played(tmp_path):
        process = installation.start(**pulse_environment(tmp_path))
        watch.state("ok", 0.0)

        pulse_control(tmp_path, "unload-module", "module-remap-source")
        moved_s = time.monotonic()
        notice_s, reason = watch.state("flat_signal", moved_s)
        (number, *_rest) = pulse_control(tmp_path, "list", "short", "source-outputs").split()
        pulse_control(tmp_path, "move-source-output", number, "hall.listener")
        back_s = time.monotonic()
        recover_s, _ = watch.wait_for(lambda payload: payload["state"] != "flat_signal", back_s)

    report("PulseAudio source unloaded, stream moved", "flat_signal", notice_s, recover_s)
    assert reason == "the sound has no signal at all; is the microphone connected?"
    assert notice_s < 8.0
    assert recover_s < 6.0
    assert process.poll() is None


@pytest.mark.slow
def test_daemon_on_jack_counts_an_overflow_and_goes_on(
    installation: Installation, watch: Watch
) -> None:
    """A computer too busy to read for three seconds is a gap and an overrun in the health."""
    name = f"edgeasd-{os.getpid()}"
    installation.configure(JACK, mqtt=HEALTH_EACH_SECOND)
    with jackd(name):
        process = installation.start(**jack_environment(name))
        watch.wait_for(hears, 0.0, "health")

        process.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        process.send_signal(signal.SIGCONT)
        began_s = time.monotonic()
        notice_s, health = watch.wait_for(
            lambda payload: payload["machines"][0]["overruns"] > 0, began_s, "health"
        )
        recover_s, _ = watch.wait_for(
            lambda payload: payload["machines"][0]["gaps"] > 0, began_s, "health"
        )

        (machine,) = health["machines"]
        report("JACK overflow, reader 3 s late", f"{machine['state']}, gap", notice_s, recover_s)
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
def test_daemon_whose_jack_server_is_killed_leaves_for_a_restart(
    installation: Installation, watch: Watch
) -> None:
    """A server that is killed hangs its clients; the daemon leaves, and comes back with it."""
    name = f"edgeasd-{os.getpid()}"
    installation.configure(JACK, mqtt=HEALTH_EACH_SECOND)
    with ExitStack() as stack:
        server = stack.enter_context(jackd(name))
        process = installation.start(**jack_environment(name))
        watch.wait_for(hears, 0.0, "health")

        server.terminate()
        ended_s = time.monotonic()
        notice_s, _ = watch.state("no_audio", ended_s)
        process.wait(timeout=60)
        left_s = time.monotonic() - ended_s
        stack.enter_context(jackd(name))
        back_s = time.monotonic()
        installation.start(**jack_environment(name))
        recover_s, _ = watch.wait_for(hears, back_s, "health")

    report(f"JACK ended, daemon exits after {left_s:.0f} s", "no_audio", notice_s, recover_s)
    assert process.returncode == EX_TEMPFAIL
    assert notice_s < 8.0


@pytest.mark.slow
def test_daemon_on_jack_at_another_rate_says_which_goes(
    installation: Installation, watch: Watch
) -> None:
    """JACK has one rate; the state names it."""
    name = f"edgeasd-{os.getpid()}"
    installation.configure(f"{JACK}\nsample_rate = 16000")
    with jackd(name):
        began_s = time.monotonic()
        process = installation.start(**jack_environment(name))
        notice_s, reason = watch.state("no_audio", began_s)
        process.terminate()
        finish(process)

    report("JACK refuses the rate", "no_audio", notice_s, 0.0)
    assert reason == (f"microphone.sample_rate=16000 must be a rate that 'jack' takes: {JACK_RATE}")


def test_daemon_whose_microphone_is_not_there_yet_waits_for_it(
    installation: Installation, watch: Watch, tmp_path: Path
) -> None:
    """A microphone that is missing at the start is told, and heard once it is there."""
    installation.configure(PULSE, mqtt=HEALTH_EACH_SECOND)
    process = installation.start(**pulse_environment(tmp_path))
    began_s = time.monotonic()
    notice_s, reason = watch.state("no_audio", began_s)

    with pulseaudio(tmp_path):
        back_s = time.monotonic()
        recover_s, _ = watch.wait_for(hears, back_s, "health")
        process.terminate()
        log = finish(process)

    report("Microphone missing at the start", "no_audio", notice_s, recover_s)
    assert reason == "no microphone is there; connect one"
    assert f"m1: no_audio ({reason})" in log


def test_daemon_reloaded_to_a_microphone_that_is_not_there_waits_for_it(
    installation: Installation, watch: Watch, alsa: VirtualMicrophone
) -> None:
    """The one before is no longer heard: it may be at another machine now."""
    installation.configure(ALSA, mqtt=HEALTH_EACH_SECOND)
    alsa.feed(sound(120))
    process = installation.start(**alsa.environment)
    watch.wait_for(hears, 0.0, "health")

    installation.configure(ALSA.replace(DEVICE, "away"), mqtt=HEALTH_EACH_SECOND)
    reload(process)
    _, reason = watch.state("no_audio", 0.0)
    installation.configure(ALSA, mqtt=HEALTH_EACH_SECOND)
    reload(process)
    back_s = time.monotonic()
    recover_s, _ = watch.wait_for(listens, back_s)
    process.terminate()
    finish(process)

    report("Reload to a microphone that is not there, and back", "no_audio", 0.0, recover_s)
    assert reason == f"microphone.device='away' is not there; there are: {DEVICE}, ALSA"


@pytest.mark.slow
def test_daemon_whose_microphone_is_not_there_yet_hears_the_other(
    installation: Installation, watch: Watch, tmp_path: Path, alsa: VirtualMicrophone
) -> None:
    """One that is missing at the start costs the other machine nothing, and a gap as it comes."""
    installation.configure(ALSA, PULSE, mqtt=HEALTH_EACH_SECOND)
    alsa.feed(sound(120))
    process = installation.start(**alsa.environment, **pulse_environment(tmp_path))
    began_s = time.monotonic()
    notice_s, reason = watch.state("no_audio", began_s, "m2")
    watch.state("ok", began_s)

    with pulseaudio(tmp_path):
        back_s = time.monotonic()
        recover_s, health = watch.wait_for(hears, back_s, "health")
        process.terminate()
        finish(process)

    report("One of two microphones missing at the start", "no_audio", notice_s, recover_s)
    assert reason == f"microphone.device='pulse' is not there; there are: {DEVICE}, ALSA"
    assert health["machines"][0]["gaps"] <= 1
