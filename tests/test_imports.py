"""Tests of what the daemon imports: it runs without torch, PortAudio, embedded broker, trainer."""

from __future__ import annotations

import ast
import ctypes.util
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

PACKAGE = CHECKOUT / "edgeasd"
MODULES = sorted(
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)

# Run in a process of its own: refuses the modules named first and hides PortAudio, then imports the
# others, each as if it were the first of ours: what it needs it must import itself.
IMPORT_WITHOUT = """
import ctypes.util, importlib, sys, traceback

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

find_library = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name == "portaudio" else find_library(name)
sys.meta_path.insert(0, Absent())
for module in sys.argv[2:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "edgeasd"]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except Exception:
        print(f"{module} cannot be imported:", file=sys.stderr)
        traceback.print_exc()
"""


def import_without(blocked: str, *modules: str) -> str:
    """Import each of *modules* without those *blocked* and PortAudio; return what went wrong."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_WITHOUT, blocked, *modules],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return result.stderr


@functools.cache
def imported_modules(path: Path) -> frozenset[str]:
    """Return the modules that the file at *path* imports anywhere, also within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return frozenset(names)


def test_modules_are_found() -> None:
    """The list of modules that the tests below go through is not empty."""
    assert {
        "edgeasd",
        "edgeasd.common.config.keys",
        "edgeasd.detect",
        "edgeasd.detect.model.network",
    } <= set(MODULES)


def test_modules_import_without_torch_amqtt_and_portaudio() -> None:
    """Every module imports where torch, amqtt, the trainer and the PortAudio library are absent."""
    modules = [name for name in MODULES if name != "edgeasd.__main__"]

    told = import_without("torch,torchvision,amqtt,train,onnx", *modules)

    assert told == "", told


def test_daemon_starts_without_scipy() -> None:
    """The daemon does not load scipy, which takes 20 MB and as much time as all the rest."""
    told = import_without("scipy", "edgeasd.service.daemon")

    assert told == "", told


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_blocked_module_is_absent(name: str) -> None:
    """The process of these tests really lacks what it is told to lack."""
    assert f"ModuleNotFoundError: No module named '{name}'" in import_without(name, name)


@pytest.mark.skipif(
    ctypes.util.find_library("portaudio") is None, reason="PortAudio is absent from this computer"
)
def test_portaudio_is_absent() -> None:
    """The process of these tests really lacks PortAudio, so that sounddevice cannot be imported."""
    told = import_without("_sounddevice_data", "sounddevice")

    assert "OSError: PortAudio library not found" in told


def test_no_module_imports_the_trainer() -> None:
    """No module of the daemon imports the trainer, torch or the tests, not even lazily."""
    foreign = {"train", "torch", "torchvision", "onnx", "sklearn", "tests"}
    found = {
        path: foreign.intersection(name.partition(".")[0] for name in imported_modules(path))
        for path in PACKAGE.rglob("*.py")
    }

    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("folder", ["detect", "baseline"])
def test_pure_folder_imports_no_clock_thread_or_file(folder: str) -> None:
    """What turns sound into alarms gets all it needs handed in, so that a replay repeats it."""
    impure = {"os", "pathlib", "socket", "subprocess", "threading", "time"}
    roots = {
        name.partition(".")[0]
        for path in (PACKAGE / folder).rglob("*.py")
        for name in imported_modules(path)
    }

    assert "numpy" in roots
    assert roots.isdisjoint(impure)


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("sounddevice", {"capture/microphone/portaudio.py"}),
        ("paho", {"publish/mqtt/client.py"}),
        ("onnxruntime", {"detect/model/network.py"}),
        # The first talks to the file, the others must tell what its errors mean.
        ("sqlite3", {f"publish/outbox/{name}.py" for name in ("event_file", "outbox", "snapshot")}),
    ],
)
def test_library_is_imported_in_one_place(library: str, allowed: set[str]) -> None:
    """Each library of the edges is known to the modules made for it."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if library in {name.partition(".")[0] for name in imported_modules(path)}
    }

    assert users == allowed


def test_model_is_loaded_without_a_report_to_anyone(tmp_path: Path) -> None:
    """ONNX Runtime stores no events to be sent and no number of this computer."""
    program = (
        "from edgeasd.cli.demo.demo import MODEL; "
        "from edgeasd.detect.model.network import Model; "
        "Model(MODEL.read_bytes(), 'demo')"
    )
    # CI would switch it off by itself.
    environment = {key: value for key, value in os.environ.items() if key != "CI"}

    subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env={**environment, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        timeout=120,
        check=True,
    )

    assert list(tmp_path.rglob("*")) == []
