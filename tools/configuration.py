"""The configuration as people read it: the commented example, and the page of the documentation."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from edgeasd.common.config.keys import (
    AlarmConfig,
    ClipsConfig,
    Config,
    FileConfig,
    MachineTable,
    MicrophoneConfig,
    MqttConfig,
    SimulatorConfig,
)
from edgeasd.common.documents.reading import Example, Rule, json_schema

TABLES: Mapping[str, type] = MappingProxyType(
    {
        "": Config,
        "[mqtt]": MqttConfig,
        "[clips]": ClipsConfig,
        "[[machine]]": MachineTable,
        "[machine.microphone]": MicrophoneConfig,
        "[machine.file]": FileConfig,
        "[machine.simulator]": SimulatorConfig,
        "[machine.alarm]": AlarmConfig,
    }
)
"""The tables of the file, in the order of the documentation."""
_WIDTH = 100
_UNITS: Mapping[str, str] = MappingProxyType(
    {"_s": "s", "_days": "days", "_mb": "MB", "_rate": "Hz"}
)
"""Units, by the end of a key's name."""
_EXAMPLE_HEAD = """\
# edgeasd: configuration.  Copy to /etc/edgeasd/edgeasd.toml, then check it with 'edgeasd check'.
#
# Every key is here.  A line '# key = value' shows the default, or, where the comment says so, an
# example; remove the '# ' in front to set it.  Unknown keys are refused.  Relative paths are taken
# from the folder of this file."""
_PAGE_HEAD = """\
<!-- Made by `make generate` from edgeasd/common/config/keys.py; change it there. -->

# Configuration

The configuration is one TOML file, by default `/etc/edgeasd/edgeasd.toml`. `edgeasd check` reads it
as the daemon does and tells every mistake in it. Unknown keys are refused, with the nearest known
one. Relative paths are taken from the folder of the file. To start from:

- [`deploy/edgeasd.example.toml`](../deploy/edgeasd.example.toml) has every key with its default,
  unit and meaning, ready to be changed;
- [`deploy/schemas/config.schema.json`](../deploy/schemas/config.schema.json) is the JSON schema,
  for editors that complete and check keys."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration.

    Attributes:
        name: Name of the key.
        description: What it means, beginning with the unit.
        rule: What the value must be, in words; empty if any value of the type will do.
        required: Whether it must be given.
        default: The default as TOML writes it; empty where there is none to write.
        example: The example as TOML writes it; empty where the default says enough.
        default_text: What holds where the key is not given, in words, if there is an example.
    """

    name: str
    description: str
    rule: str
    required: bool
    default: str
    example: str
    default_text: str

    @property
    def unit(self) -> str:
        """Unit of the value; empty if it has none."""
        return next((unit for end, unit in _UNITS.items() if self.name.endswith(end)), "")


def keys_of(cls: type) -> list[Key]:
    """Return the keys of a table that are no tables themselves."""
    hints = get_type_hints(cls, include_extras=True)
    return [
        _key(cls, item, hints[item.name])
        for item in fields(cls)
        if not any(map(is_dataclass, _types_in(hints[item.name])))
    ]


def _key(cls: type, item: Field[Any], hint: Any) -> Key:
    added = hint.__metadata__ if get_origin(hint) is Annotated else ()
    rules = [one.text for one in added if isinstance(one, Rule)]
    examples = [one for one in added if isinstance(one, Example)]
    required = item.default is MISSING and item.default_factory is MISSING
    has_default = not required and not examples
    return Key(
        name=item.name,
        description=_description(cls, item.name),
        rule="".join(rules),
        required=required,
        default=_toml(item.default) if has_default else "",
        example=_toml(examples[0].value) if examples else "",
        default_text=examples[0].default if examples else "",
    )


def _types_in(hint: Any) -> Iterator[Any]:
    yield hint
    for part in get_args(hint):
        if not isinstance(part, Rule | Example):
            yield from _types_in(part)


@cache
def _schemas() -> dict[str, Any]:
    schema = json_schema(Config)
    return {"Config": schema, **schema["$defs"]}


def _description(cls: type, name: str) -> str:
    text: str = _schemas()[cls.__name__]["properties"][name]["description"]
    return text


def _summary(cls: type) -> str:
    text: str = _schemas()[cls.__name__]["description"]
    return text


def _toml(value: Any) -> str:
    # TOML and JSON write strings, numbers, true and false alike.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def example() -> str:
    """Return the example configuration, with every key."""
    of_microphone = _description(MachineTable, "microphone")
    blocks = [
        _EXAMPLE_HEAD,
        *_entries(Config),
        *_section(_summary(MqttConfig), "[mqtt]"),
        *_section(_summary(ClipsConfig), "[clips]"),
        *_section("One table [[machine]] for each machine", "[[machine]]"),
        f"{_comment(of_microphone)}\n[machine.microphone]",
        *_entries(MicrophoneConfig),
        f"{_comment(_summary(AlarmConfig))}\n[machine.alarm]",
        *_entries(AlarmConfig),
        *_other_machine("[machine.file]", "recorded-fan", "fan.onnx"),
        *_other_machine("[machine.simulator]", "simulated", "simulated.onnx"),
    ]
    return "\n\n".join(blocks) + "\n"


def _section(title: str, table: str) -> list[str]:
    return [_rule_line(title), table, *_entries(TABLES[table])]


def _other_machine(table: str, name: str, model: str) -> list[str]:
    machine = f'# [[machine]]\n# name = "{name}"\n# model = "{model}"'
    cls = TABLES[table]
    return [_rule_line(_summary(cls)), machine, f"# {table}", *_entries(cls, all_commented=True)]


def _rule_line(title: str) -> str:
    return "\n" + f"# --- {title.removesuffix('.')} ".ljust(_WIDTH, "-")


def _entries(cls: type, *, all_commented: bool = False) -> list[str]:
    return [_entry(key, commented=all_commented or not key.required) for key in keys_of(cls)]


def _entry(key: Key, *, commented: bool) -> str:
    text = key.description
    if key.rule:
        text += f" Must be {key.rule}."
    if key.required:
        text += " Must be given."
    lines = [_comment(text)]
    if key.default_text:
        lines.append(_comment(f"Example; by default {key.default_text}."))
    lines.append(f"{'# ' if commented else ''}{key.name} = {key.default or key.example}")
    return "\n".join(lines)


def _comment(text: str) -> str:
    return textwrap.fill(
        text.replace("`", "'").replace(". ", ".  "),
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def page() -> str:
    """Return the page of the documentation that lists every key."""
    overview = ["| table | keys |", "| --- | --- |"]
    parts = []
    for table, cls in TABLES.items():
        keys = keys_of(cls)
        title = f"`{table}`" if table else "top"
        overview.append(f"| {title} | {', '.join(f'`{key.name}`' for key in keys)} |")
        heading = f"## {title}" if table else "## Keys at the top"
        parts.append("\n".join([heading, "", _summary(cls), "", *_rows(keys)]))
    return "\n\n".join([_PAGE_HEAD, "\n".join(overview), *parts]) + "\n"


def _rows(keys: list[Key]) -> Iterator[str]:
    yield "| key | default | unit | must be | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for key in keys:
        default = f"`{key.default}`" if key.default else key.default_text or "must be given"
        shown = f" Example: `{key.example}`." if key.example else ""
        cells = (f"`{key.name}`", default, key.unit, key.rule, key.description + shown)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
