"""Sound servers of their own for the tests: PulseAudio and JACK without hardware."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RATE = 16_000
JACK_RATE = 48_000

_DEADLINE_S = 60.0


@contextmanager
def pulseaudio(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a PulseAudio server with one silent input, until the end of the ``with`` statement.

    The input ``machine`` hears what is played to the output ``hall``.
    """
    socket = directory / "pulse.socket"
    socket.unlink(missing_ok=True)
    sound = f"format=s16le rate={RATE} channels=1"
    command = ["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-n"]
    for module in (
        f"module-native-protocol-unix socket={socket} auth-anonymous=1",
        f"module-null-sink sink_name=elsewhere {sound}",
        f"module-null-sink sink_name=hall {sound}",
        f"module-remap-source master=hall.monitor source_name=machine {sound} remix=no",
    ):
        command += ["-L", module]
    home = {"HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}
    with subprocess.Popen(command, env=os.environ | home, stderr=subprocess.DEVNULL) as server:
        try:
            deadline_s = time.monotonic() + _DEADLINE_S
            while not socket.exists():
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            yield server
        finally:
            server.kill()


def pulse_environment(directory: Path) -> dict[str, str]:
    """Return what a client of `pulseaudio` needs in its environment."""
    return {"PULSE_SERVER": f"unix:{directory}/pulse.socket", "PULSE_SOURCE": "machine"}


def pulse_control(directory: Path, *command: str) -> str:
    """Tell the server of `pulseaudio` something with ``pactl``, and return its answer."""
    done = subprocess.run(
        ["pactl", *command],
        env=os.environ | pulse_environment(directory) | {"HOME": str(directory)},
        capture_output=True,
        text=True,
        check=True,
        timeout=_DEADLINE_S,
    )
    return done.stdout


@contextmanager
def jackd(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a JACK server without hardware, of 48 kHz and two channels of silence.

    ALSA's device ``jack`` of libasound2-plugins leads to it.
    """
    command = ["jackd", "-n", name, "--no-realtime", "--no-mlock", "-d", "dummy"]
    command += ["-r", str(JACK_RATE), "-p", "1024", "-C", "2", "-P", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            time.sleep(0.2)  # jack_wait creates the files that the server is about to create
            subprocess.run(
                ["jack_wait", "--server", name, "--wait", "--timeout", str(round(_DEADLINE_S))],
                check=True,
                capture_output=True,
            )
            yield server
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()  # a server that is killed leaves files that the next one trips on
            try:
                server.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                server.kill()


def jack_environment(name: str) -> dict[str, str]:
    """Return what a client of `jackd` needs in its environment."""
    return {"JACK_DEFAULT_SERVER": name, "JACK_NO_START_SERVER": "1"}
