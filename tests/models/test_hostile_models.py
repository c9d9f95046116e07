"""Whatever a model file does, it is refused in one line, and costs nobody but itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from edgeasd.cli.demo.demo import MODEL
from edgeasd.common.errors import ModelError
from edgeasd.models import trial as model_trial
from edgeasd.models.cache import Models
from edgeasd.service.machine.machine import Machine
from tests.conftest import CHECKOUT
from tests.detect.hostile_models import HOSTILE
from tests.detect.models import normal_sound
from tests.installation import listening_machine
from tests.publish.brokers import wait_until

_MEMORY_KB = 150_000
"""What reading files of up to 64 MiB may take, with the ten MB of a good model."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All hostile files, by name."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (make, _) in HOSTILE.items():
        (folder / f"{name}.onnx").write_bytes(make())
    return folder


def test_start_refuses_each_and_takes_the_good_one(folder: Path) -> None:
    """All are tried side by side with a good model, and the process that asks does not grow."""
    program = (
        "import sys, resource; from pathlib import Path; from edgeasd.models.cache import Models\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "paths, before = list(map(Path, sys.argv[1:])), peak()\n"
        "models = Models(); models.prepare(paths)\n"
        "for path in paths:\n"
        "    try: models.load(path); print('taken')\n"
        "    except Exception as exc: print(repr(exc))\n"
        "print(peak() - before)"
    )
    paths = [folder / f"{name}.onnx" for name in HOSTILE]

    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, [*paths, MODEL])],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    *answers, taken, grown_kb = result.stdout.splitlines()
    assert result.stderr == ""
    for answer, path, (_, words) in zip(answers, paths, HOSTILE.values(), strict=True):
        assert answer.startswith("ModelError(")
        assert f"{path}: " in answer
        assert words.replace("'", "\\'") in answer or words in answer
        assert len(answer) < 2000
    assert taken == "taken"
    assert int(grown_kb) < _MEMORY_KB


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One that hears a healthy machine, in real time."""
    with listening_machine(tmp_path) as machine:
        yield machine


@pytest.mark.parametrize("name", ["external data", "memory", "loop"])
def test_hot_swap_leaves_the_old_model_without_a_gap(
    machine: Machine, folder: Path, name: str
) -> None:
    """It is told once, no look at the file waits for the trial, and no window is left out."""
    path = machine.config.model
    wait_until(lambda: machine.health().windows > 0, "the first window")
    looks_s = []

    def is_refused() -> bool:
        began_s = time.monotonic()
        told = machine.follow()
        looks_s.append(time.monotonic() - began_s)
        return told

    (path.parent / "copy").write_bytes((folder / f"{name}.onnx").read_bytes())
    (path.parent / "copy").replace(path)
    wait_until(is_refused, "the refusal", 120.0)

    fault = machine.health().model_fault
    windows = machine.health().windows
    assert fault.startswith(f"{path}: ")
    assert HOSTILE[name][1] in fault
    assert fault.endswith("; the model loaded before is used")
    assert max(looks_s) < 3.0  # the trial of the loop takes 5 s of computing, and loading none
    wait_until(lambda: machine.health().windows > windows + 4, "more windows")
    assert machine.health().gaps == 0
    assert not machine.follow()


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "bad.onnx"),
        ("score", "--model", "bad.onnx", "sound.wav"),
        ("calibrate", "--config", "edgeasd.toml", "m1", "sound.wav"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_command_refuses_it_in_one_line(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Every command that loads a model tries it as the daemon does."""
    (tmp_path / "bad.onnx").write_bytes((folder / "memory.onnx").read_bytes())
    (tmp_path / "edgeasd.toml").write_text(
        '[[machine]]\nname = "m1"\nmodel = "bad.onnx"\n[machine.simulator]\n'
    )
    soundfile.write(tmp_path / "sound.wav", normal_sound(20 * 16_000, 5), 16_000)

    result = subprocess.run(
        [sys.executable, "-m", "edgeasd", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert result.returncode == os.EX_DATAERR
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("edgeasd: ")
    assert line.endswith("bad.onnx: takes more than 256 MiB of memory; export it again")


def test_copies_of_a_bad_file_are_tried_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines whose models are copies of one that never returns cost its time once."""
    tried = []
    ask = model_trial._asked

    def noting(process: subprocess.Popen[bytes], content: bytes) -> str:
        tried.append(content)
        return ask(process, content)

    monkeypatch.setattr(model_trial, "_asked", noting)
    paths = [tmp_path / f"{number}.onnx" for number in range(3)]
    for path in paths:
        path.write_bytes((folder / "memory.onnx").read_bytes())
    models = Models()

    models.prepare(paths)
    for path in paths:
        with pytest.raises(ModelError, match=f"^{path}: takes more than 256 MiB"):
            models.load(path)

    assert len(tried) == 1


def test_no_module_loads_what_was_not_tried() -> None:
    """A model is opened where it is tried, taken up after its trial, or just made; nowhere else."""
    users = {
        path.name
        for path in (CHECKOUT / "edgeasd").rglob("*.py")
        if re.search(r"\bModel\(", path.read_text())
    }

    assert users == {"trial_process.py", "cache.py", "learn.py"}
