"""What edgeasd makes of fixed recordings and configurations: scores, events, payloads, exit codes.

``python -m tests.golden`` writes tests/golden.json anew, with the interpreter that runs it or, by
``--python``, with another one that has another release of edgeasd.  With ``--compare`` it writes
nothing, and says what differs.  Whatever depends on the day, on chance or on words is left out.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import edgeasd
from tests.commands import edgeasd as edgeasd_command
from tests.detect.models import faulty_sound, make_model, normal_sound
from tests.publish.brokers import Mosquitto, Subscriber, wait_until

FILE = Path(__file__).with_suffix(".json")
DEMO_MODEL = Path(edgeasd.__file__).parent / "models" / "demo.onnx"
RATE = 16_000

CONFIG = """
node = "n1"
state_dir = "state"
[mqtt]
host = "127.0.0.1"
port = {port}
[[machine]]
name = "tiny"
model = "tiny.onnx"
[machine.file]
path = "mixed.wav"
paced = false
[[machine]]
name = "learned"
model = "learned.onnx"
[machine.file]
path = "two_channels.wav"
channel = 1
paced = false
[machine.alarm]
raise_after = 2
"""

WRONG_CONFIGS = {
    "no machine": 'node = "n1"',
    "not TOML": "node = ",
    "unknown key": '[[machine]]\nname = "a"\nmodel = "tiny.onnx"\nmodle = 1',
    "wrong type": '[[machine]]\nname = "a"\nmodel = 7',
    "wrong value": '[[machine]]\nname = "a"\nmodel = "tiny.onnx"\n[machine.alarm]\nraise_after = 0',
    "not a number": (
        '[[machine]]\nname = "a"\nmodel = "tiny.onnx"\n[machine.alarm]\nthreshold = nan'
    ),
    "two sources": (
        '[[machine]]\nname = "a"\nmodel = "tiny.onnx"\n[machine.simulator]\n[machine.microphone]'
    ),
    "name twice": '[[machine]]\nname = "a"\nmodel = "b"\n[[machine]]\nname = "a"\nmodel = "b"',
    "key without certificate": (
        '[mqtt]\nkey_file = "k"\n[[machine]]\nname = "a"\nmodel = "tiny.onnx"'
    ),
    "clear above threshold": (
        '[[machine]]\nname = "a"\nmodel = "tiny.onnx"\n[machine.alarm]\nthreshold = 1.0\n'
        "clear_threshold = 2.0"
    ),
}

_CHANGING = re.compile(
    r"(_ms|_id)$|^(id|seq|created|edgeasd|sha256|model_sha256|path|boot_id|time|clip|uptime_s|"
    r"real_time_factor|late_s|clock_synced|reason|warning|version|sites|drift_ppm|sources|since)$"
)
"""Keys whose values depend on the day, the run, the release or on words."""


def make_inputs(folder: Path) -> None:
    """Write the recordings and the small model of all cases to *folder*."""
    make_model(folder / "tiny.onnx")
    rng = np.random.default_rng(7)
    normal, faulty = normal_sound(12 * RATE, 5), faulty_sound(10 * RATE, 6)
    flat = np.zeros(2 * RATE, np.float32)
    mixed = np.concatenate([normal, faulty, normal_sound(12 * RATE, 7)])
    loud = np.clip(8.0 * faulty_sound(6 * RATE, 8), -1.0, 1.0)
    sounds = {
        "mixed": (mixed, RATE),
        "two_channels": (np.stack([mixed[12 * RATE :], mixed[: 22 * RATE]], axis=1), RATE),
        "silent_inside": (np.concatenate([normal, flat, normal]), RATE),
        "clipped": (np.concatenate([normal, loud]), RATE),
        "other_rate": (normal_sound(6 * 44_100, 9, 44_100), 44_100),
        "low_rate": (normal_sound(6 * 8_000, 10, 8_000), 8_000),
        "short": (normal[: RATE // 2], RATE),
    }
    for name, (samples, rate) in sounds.items():
        soundfile.write(folder / f"{name}.wav", samples, rate, subtype="PCM_16")
    soundfile.write(folder / "mixed.flac", mixed, RATE, subtype="PCM_16")
    (folder / "not_sound.wav").write_bytes(b"RIFF" + bytes(100))
    for purpose, n_clips in (("learning", 30), ("calibration", 30)):
        (folder / purpose).mkdir()
        for index in range(n_clips):
            hum = normal_sound(10 * RATE, 100 + index + 1000 * (purpose == "calibration"))
            drone = np.float32(0.003 * rng.standard_normal()) * np.sign(hum)
            soundfile.write(folder / purpose / f"{index:02d}.wav", hum + drone, RATE)


def without_what_changes(value: Any) -> Any:
    """Return *value* without the keys that differ from run to run."""
    if isinstance(value, dict):
        return {
            key: without_what_changes(one)
            for key, one in value.items()
            if not _CHANGING.search(key)
        }
    return [without_what_changes(one) for one in value] if isinstance(value, list) else value


class Runner:
    """Runs the commands of one release of edgeasd in a folder.

    Args:
        python: Interpreter that has the release; None runs this one's commands in this process.
        folder: Folder of the inputs.
    """

    def __init__(self, python: str | None, folder: Path) -> None:
        self._python = python
        self._folder = folder

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        if self._python is None:
            return edgeasd_command(*arguments, cwd=self._folder)
        return self.process(*arguments)

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, in a process of its own in any case."""
        return subprocess.run(
            [self._python or sys.executable, "-m", "edgeasd", *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def rows(self, *arguments: str) -> dict[str, Any]:
        """Return exit code and lines of JSON of a command."""
        done = self.command(*arguments)
        rows = [without_what_changes(json.loads(line)) for line in done.stdout.splitlines()]
        return {"exit_code": done.returncode, "rows": rows}

    def numbers(self, *arguments: str) -> dict[str, Any]:
        """Return exit code and all numbers that a command tells people."""
        done = self.command(*arguments)
        return {
            "exit_code": done.returncode,
            "numbers": re.findall(r"-?\d+(?:\.\d+)?", done.stdout),
        }


def record(python: str | None, folder: Path) -> dict[str, Any]:
    """Return what edgeasd makes of all cases, in *folder*; see `Runner` for *python*."""
    make_inputs(folder)
    (folder / "edgeasd.toml").write_text(CONFIG.format(port=1))
    run = Runner(python, folder)
    golden = dict(_scores(run))
    configured = ("--config", "edgeasd.toml")
    golden["learn"] = {
        "exit_code": run.command("learn", *configured, "learned", "learning").returncode
    }
    model = run.command("model", "learned.onnx")
    golden["learned model"] = without_what_changes(json.loads(model.stdout))
    golden["learned score"] = run.rows("score", "--model", "learned.onnx", "mixed.wav")
    golden["calibrate"] = {
        "exit_code": run.command("calibrate", *configured, "learned", "calibration").returncode,
        "files": {
            path.name: without_what_changes(json.loads(path.read_text()))
            for path in sorted(folder.glob("*.json"))
        },
    }
    calibrated = ("score", *configured, "--machine", "learned", "--channel", "1")
    golden["calibrated score"] = run.rows(*calibrated, "two_channels.wav")
    golden["explain"] = run.numbers("explain", "--model", "learned.onnx", "mixed.wav")
    golden["daemon"] = _daemon(run, folder)
    golden["wrong configurations"] = dict(_wrong(run, folder))
    return golden


def _scores(run: Runner) -> Iterator[tuple[str, Any]]:
    names = ("mixed", "silent_inside", "clipped", "other_rate", "low_rate", "short", "not_sound")
    files = [*(f"{name}.wav" for name in names), "mixed.flac", "missing.wav"]
    tiny = ("score", "--model", "tiny.onnx")
    yield "tiny windows", run.rows(*tiny, *files)
    yield "tiny clips", run.rows(*tiny, "--per", "clip", *files)
    yield "tiny channel", run.rows(*tiny, "--channel", "1", "two_channels.wav")
    table = run.command(*tiny, "--format", "csv", "mixed.wav").stdout.splitlines()
    yield "tiny CSV", {"heading": table[0], "lines": len(table)}
    demo = ("score", "--model", str(DEMO_MODEL), "--section", "02", "--per", "clip")
    yield "demo clip", run.rows(*demo, "mixed.wav")


def _daemon(run: Runner, folder: Path) -> dict[str, Any]:
    broker = Mosquitto(folder / "mosquitto")
    broker.start()
    try:
        subscriber = Subscriber(broker.port)
        (folder / "edgeasd.toml").write_text(CONFIG.format(port=broker.port))
        exit_code = run.process("run", "--config", "edgeasd.toml").returncode
        wait_until(lambda: b"offline" in subscriber.on("edgeasd/v1/n1/availability"), "the end")
        health = [message for message in subscriber.on("edgeasd/v1/n1/health") if message]
        return {
            "exit_code": exit_code,
            "health": without_what_changes(json.loads(health[-1])),
            **{
                f"{machine} {kind}": [
                    without_what_changes(json.loads(payload))
                    for payload in subscriber.on(f"edgeasd/v1/n1/{machine}/{kind}")
                ]
                for machine in ("tiny", "learned")
                for kind in ("event", "score")
            },
            # How many states are told on the way depends on the computer; the last one does not.
            **{
                f"{machine} last state": json.loads(
                    subscriber.on(f"edgeasd/v1/n1/{machine}/state")[-1]
                )["state"]
                for machine in ("tiny", "learned")
            },
        }
    finally:
        subscriber.close()
        broker.stop()


def _wrong(run: Runner, folder: Path) -> Iterator[tuple[str, Any]]:
    for name, text in WRONG_CONFIGS.items():
        (folder / "wrong.toml").write_text(text)
        yield name, run.command("run", "--config", "wrong.toml").returncode


def differences(one: Any, other: Any, tolerance: float, where: str = "") -> Iterator[str]:
    """Yield a line for each place where two values differ; numbers by more than *tolerance*."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            place = f"{where}/{key}"
            if key not in one or key not in other:
                yield f"{place}: only {'before' if key in one else 'after'}"
            else:
                yield from differences(one[key], other[key], tolerance, place)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, tolerance, f"{where}/{index}")
    elif not _equal(one, other, tolerance):
        yield f"{where}: {str(one)[:80]} before, {str(other)[:80]} after"


def _equal(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance * max(1.0, abs(one))
    return type(one) is type(other) and one == other


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file anew, or compare with it to the last bit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="interpreter that has edgeasd")
    parser.add_argument("--compare", action="store_true", help="say what differs, to the last bit")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        golden = record(asked.python, Path(folder))
    if not asked.compare:
        FILE.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
        return 0
    found = list(differences(json.loads(FILE.read_text()), golden, 0.0))
    print("\n".join(found) or "nothing differs")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
