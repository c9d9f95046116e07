"""docs/architecture.md says what the code does: its paths, its objects, and its walks."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from edgeasd.capture.microphone.channel import Microphone
from edgeasd.capture.microphone.portaudio import InputStream
from edgeasd.capture.ringbuffer import RingBuffer
from edgeasd.common.config.keys import AlarmConfig, Config, MachineConfig, MicrophoneConfig
from edgeasd.detect.pipeline import Pipeline
from edgeasd.models.cache import Models
from edgeasd.publish.outbox.event_file import EventFile
from edgeasd.service.machine.machine import STOP_TIMEOUT_S, Machine
from edgeasd.service.machine.reporter import Reporter
from edgeasd.service.node import Node
from tests.capture.test_microphone import Library
from tests.conftest import CHECKOUT
from tests.detect.models import make_model, normal_sound
from tests.publish.brokers import wait_until

TEXT = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = CHECKOUT / "edgeasd"
RATE, BLOCK = 16_000, 512
MOST_OBJECTS = 9


def section(title: str) -> str:
    """Return the text below the heading *title*."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def has(path: str, name: str) -> bool:
    """Return whether the module at *path* defines *name*, which may be a method of a class."""
    found: Any = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None


def test_every_path_is_there() -> None:
    """Files, and folders, whose names end in a slash."""
    paths = set(re.findall(r"`((?:edgeasd|train|tests)/[\w/.]*)`", TEXT))

    assert len(paths) > 30
    assert [path for path in paths if not (CHECKOUT / path).exists()] == []


def test_every_object_of_the_table_is_in_its_file() -> None:
    """Each line of the data flow has one."""
    rows = re.findall(r"^\| ([^|]+) \| `([\w/]+\.py)` \| `(\w+)` \|$", TEXT, re.MULTILINE)
    lines = " ".join(line for line, _, _ in rows)

    for stage in (
        *("microphone", "WAV file", "simulator", "ring buffer", "resample", "log-mel frames"),
        *("windows", "median filter", "network", "clip score", "alarm", "outbox", "MQTT"),
    ):
        assert stage in lines
    assert [row for row in rows if not has(*row[1:])] == []


def test_every_object_with_a_path_beside_it_is_in_that_file() -> None:
    """In the walks, and in the table of states."""
    named = re.findall(r"`([A-Za-z_.]+)`\s+\(`([\w/]+\.py)`\)", TEXT)

    assert len(named) > 25
    assert [one for one in named if not has(one[1], one[0])] == []


def test_every_folder_is_in_the_table() -> None:
    """And no other, each with a module that says what is in it."""
    folders = {f"edgeasd/{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}

    assert set(re.findall(r"^\| `(edgeasd/\w+/)` \|", section("Folders"), re.MULTILINE)) == folders


WALK = section("The walk of a block, and of its alarm")
STAGES = re.findall(r"^- `(\w+)\.(\w+)` \(`([\w/]+)\.py`\)$", WALK, re.MULTILINE)


class Walk:
    """Notes, in every thread that begins from now on, by which objects the sound goes."""

    def __init__(self) -> None:
        self.calls: dict[CodeType, list[str]] = {}
        self.stages: list[str] = []
        self._watched = {
            method.__code__
            for method in (
                *(InputStream.read, RingBuffer.write, RingBuffer.read, Microphone.read),
                *(Pipeline.process, EventFile.add),
            )
        }
        self._stages: dict[CodeType, str] = {}
        for owner, method, path in STAGES:
            module = importlib.import_module(path.replace("/", "."))
            self._stages[getattr(getattr(module, owner), method).__code__] = f"{owner}.{method}"

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """Note a call."""
        code = frame.f_code
        if event != "call":
            return
        if code in self._watched and code not in self.calls:
            self.calls[code] = list(objects_on(frame))
        name = self._stages.get(code)
        if name is not None and name not in self.stages:
            self.stages.append(name)

    def of(self, method: Any) -> list[str]:
        """Return the objects that a call of *method* went through, the outermost first."""
        return self.calls[method.__code__]


def objects_on(frame: FrameType | None) -> Iterator[str]:
    """Yield the types of our objects in whose methods the thread is, the outermost first."""
    if frame is None:
        return
    names = list(objects_on(frame.f_back))
    yield from names
    if frame.f_code.co_filename.startswith(str(PACKAGE)) and "self" in frame.f_locals:
        name = type(frame.f_locals["self"]).__name__
        if name not in names:
            yield name


def test_walk_from_the_buffer_to_the_disk_is_the_one_that_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block is read from a scripted PortAudio, and its alarm committed to the outbox."""
    library, walk = Library(), Walk()
    sound = (32_768 * normal_sound(4 * RATE)).astype("int16")
    for first in range(0, len(sound) - BLOCK + 1, BLOCK):
        library.script.put(sound[first : first + BLOCK])
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    machine_config = MachineConfig(
        "m1",
        make_model(tmp_path / "tiny.onnx", clip_windows=1),
        source=MicrophoneConfig(device="desk", sample_rate=RATE),
        alarm=AlarmConfig(threshold=-1e9, clear_threshold=-1e9, raise_after=1),
    )
    node = Node(Config((machine_config,), node="n1", state_dir=tmp_path / "state"))
    threading.setprofile(walk.profile)
    try:
        machine = Machine(machine_config, node, Models(), Reporter(node, "m1"))
        machine.start()
        wait_until(lambda: len(node.outbox) > 0, "the alarm")
    finally:
        threading.setprofile(None)
        library.script.put(sound[:BLOCK])
        machine.stop(STOP_TIMEOUT_S)
        node.outbox.close()

    pulled = [InputStream.read, RingBuffer.read]
    pushed = [RingBuffer.write, Pipeline.process, EventFile.add]
    order = [pulled[0], pushed[0], pulled[1], *pushed[1:]]
    passed = [
        name
        for method in order
        for name in (walk.of(method)[::-1] if method in pulled else walk.of(method))
    ]
    assert list(dict.fromkeys(passed)) == re.findall(r"^\d\. `(\w+)`", WALK, re.MULTILINE)
    assert len(set(passed)) <= MOST_OBJECTS
    assert walk.stages == [f"{owner}.{method}" for owner, method, _ in STAGES]
