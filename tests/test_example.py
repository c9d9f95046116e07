"""Tests of the example that shows every key of the configuration, and of slips in editing it."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hypothesis import given
from hypothesis import strategies as st

from edgeasd.common.config.file import parse_config
from edgeasd.common.config.keys import (
    AlarmConfig,
    ClipsConfig,
    Config,
    FileConfig,
    MachineConfig,
    MqttConfig,
    SimulatorConfig,
)
from edgeasd.common.documents.reading import ReadAs
from edgeasd.common.errors import ConfigError
from tests.conftest import CHECKOUT
from tools.configuration import TABLES, keys_of

EXAMPLE_TEXT = (CHECKOUT / "deploy" / "edgeasd.example.toml").read_text(encoding="utf-8")
PATH = Path("/etc/edgeasd/edgeasd.toml")

UNCOMMENTED = re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", EXAMPLE_TEXT)
"""The example with every key and table in force."""


def test_tables_are_all_of_the_configuration() -> None:
    """The tables that are documented are all dataclasses that a configuration is read by."""

    def nested(hint: Any) -> set[type]:
        found = {hint} if isinstance(hint, type) and is_dataclass(hint) else set()
        parts = get_args(hint)
        for part in parts + tuple(
            get_type_hints(hint, include_extras=True).values() if found else ()
        ):
            found |= nested(part.form if isinstance(part, ReadAs) else part)
        return found

    assert nested(Config) == {*TABLES.values(), MachineConfig}


def test_example_as_it_is_runs_one_microphone() -> None:
    """The example is a valid configuration of one machine with a microphone, else of defaults."""
    config = parse_config(EXAMPLE_TEXT, PATH)

    machine = MachineConfig("press07", PATH.parent / "models/press07.onnx")
    assert config == Config(machine=(machine,))


def test_example_uncommented_gives_the_defaults_and_examples() -> None:
    """With every line in force the example has every source, and but for examples the defaults."""
    config = parse_config(UNCOMMENTED, PATH)

    folder = PATH.parent
    assert config == Config(
        machine=(
            MachineConfig("press07", folder / "models/press07.onnx", alarm=AlarmConfig(2.8, 2.4)),
            MachineConfig(
                "recorded-fan", folder / "fan.onnx", source=FileConfig(folder / "fan.wav")
            ),
            MachineConfig("simulated", folder / "simulated.onnx", source=SimulatorConfig()),
        ),
        node="edge-01",
        mqtt=MqttConfig(
            password_file=folder / "mqtt_password",
            ca_file=folder / "ca.pem",
            cert_file=folder / "node.pem",
            key_file=folder / "node.key",
        ),
        clips=ClipsConfig(directory=Path("/var/lib/edgeasd/clips")),
    )


def test_example_shows_every_key_and_no_other() -> None:
    """Every key of every table is in the example."""
    shown = set()
    table = ""
    for line in UNCOMMENTED.splitlines():
        if line.startswith("["):
            table = line
        elif entry := re.match(r"([a-z_0-9]+) = ", line):
            shown.add((table, entry[1]))

    keys = {(table, key.name) for table, cls in TABLES.items() for key in keys_of(cls)}
    assert shown == keys


def test_keys_are_all_fields_but_tables() -> None:
    """Every field of the configuration is documented as a key, or as a table of its own."""
    fields_ = {(table, item.name) for table, cls in TABLES.items() for item in fields(cls)}
    keys = {(table, key.name) for table, cls in TABLES.items() for key in keys_of(cls)}

    assert fields_ - keys == {
        ("", "machine"), ("", "mqtt"), ("", "clips"), ("[[machine]]", "microphone"),
        ("[[machine]]", "file"), ("[[machine]]", "simulator"), ("[[machine]]", "alarm"),
    }  # fmt: skip


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
