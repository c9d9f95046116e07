"""Tests of the example that shows every key of the configuration, and of slips in editing it."""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.config import (
    AlarmConfig,
    ClipsConfig,
    Config,
    FileConfig,
    MachineConfig,
    MicrophoneConfig,
    MqttConfig,
    SimulatorConfig,
)
from edgeasd.common.config_file import parse_config
from edgeasd.common.errors import ConfigError
from tests.conftest import CHECKOUT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE_TEXT = (CHECKOUT / "deploy" / "edgeasd.example.toml").read_text(encoding="utf-8")
PATH = Path("/etc/edgeasd/edgeasd.toml")

UNCOMMENTED = re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", EXAMPLE_TEXT)
"""The example with every key and table in force."""

# What no default can be shown for, and is marked as an example in the file.
EXAMPLES = {
    "node",
    "mqtt.password_file",
    "mqtt.ca_file",
    "mqtt.cert_file",
    "mqtt.key_file",
    "clips.directory",
    "machine.alarm.threshold",
    "machine.alarm.clear_threshold",
}
REQUIRED = {"machine.name", "machine.model", "machine.file.path"}
TABLES = {
    "": Config,
    "mqtt": MqttConfig,
    "clips": ClipsConfig,
    "machine": MachineConfig,
    "machine.microphone": MicrophoneConfig,
    "machine.file": FileConfig,
    "machine.simulator": SimulatorConfig,
    "machine.alarm": AlarmConfig,
}


def example_keys() -> list[tuple[str, str]]:
    """Return the dotted name and the value's text of every key that the example shows."""
    keys = []
    table = ""
    for line in UNCOMMENTED.splitlines():
        if header := re.fullmatch(r"\[+([a-z.]+)\]+", line):
            table = header[1]
        elif entry := re.fullmatch(r"([a-z_0-9]+) = (.*)", line):
            keys.append((f"{table}.{entry[1]}" if table else entry[1], entry[2]))
    return keys


def config_fields() -> dict[str, Field[Any]]:
    """Return every field of every configuration dataclass that stands as a key in the file."""
    return {
        f"{table}.{item.name}" if table else item.name: item
        for table, cls in TABLES.items()
        for item in fields(cls)
        if item.name not in {"machine", "mqtt", "clips", "source", "alarm"}
    }


def test_example_tables_are_all_of_the_configuration() -> None:
    """The tables that this test knows are every dataclass that a configuration is made of."""

    def nested(cls: type) -> set[type]:
        found = {cls}
        for hint in get_type_hints(cls).values():
            for part in [hint, *get_args(hint)]:
                if is_dataclass(part) and isinstance(part, type):
                    found |= nested(part)
        return found

    assert nested(Config) == set(TABLES.values())


def test_example_as_it_is_runs_one_microphone() -> None:
    """The example is a valid configuration of one machine with a microphone, else of defaults."""
    config = parse_config(EXAMPLE_TEXT, PATH)

    machine = MachineConfig("press07", PATH.parent / "models/press07.onnx")
    assert config == Config(machine=(machine,))


def test_example_uncommented_is_valid() -> None:
    """With every line in force the example is a valid configuration with every source."""
    config = parse_config(UNCOMMENTED, PATH)

    sources = [type(machine.source) for machine in config.machine]
    assert sources == [MicrophoneConfig, FileConfig, SimulatorConfig]


def test_example_shows_every_key_and_no_other() -> None:
    """Every field of the configuration is a key of the example."""
    assert {name for name, _ in example_keys()} == set(config_fields())


def test_example_shows_the_defaults_of_the_code() -> None:
    """A value shown is the default, but where the example calls it an example."""
    defaults = {
        name: item.default for name, item in config_fields().items() if item.default is not MISSING
    }

    for name, text in example_keys():
        if name in defaults.keys() - EXAMPLES:
            shown = tomllib.loads(f"value = {text}")["value"]
            default = defaults[name]
            assert shown == (str(default) if isinstance(default, Path) else default), name
            assert isinstance(shown, float) == isinstance(default, float), name
    assert config_fields().keys() - defaults.keys() - EXAMPLES == REQUIRED


def test_example_says_which_values_are_examples() -> None:
    """Above every value that is no default stands the word example, above no other."""
    paragraphs = EXAMPLE_TEXT.split("\n\n")
    marked = {
        key
        for paragraph in paragraphs
        if re.search(r"\bExamples?; by default\b", paragraph)
        for key in re.findall(r"(?m)^# ([a-z_]+) = ", paragraph)
    }

    assert marked == {name.rpartition(".")[2] for name in EXAMPLES}


def test_example_comments_every_key() -> None:
    """A comment stands above every key, or above a pair that it names together."""
    bare = [
        paragraph
        for paragraph in EXAMPLE_TEXT.split("\n\n")
        if re.match(r"(# )?[a-z_]+ = ", paragraph)
    ]

    assert bare == []


@st.composite
def mutated_examples(draw: st.DrawFn) -> str:
    """Draw the uncommented example with a few spans deleted, doubled or replaced."""
    text = UNCOMMENTED
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 30)))
        new = draw(st.sampled_from(["", text[start:stop] * 2]) | st.text(max_size=5))
        text = text[:start] + new + text[stop:]
    return text


@given(mutated_examples())
def test_parse_config_mutated_example_is_read_or_refused(text: str) -> None:
    """A file with slips of the pen is read or refused with a ConfigError."""
    try:
        config = parse_config(text, PATH)
    except ConfigError:
        return
    assert config.machine
