"""The configuration file: one TOML document, read strictly; each mistake is told with its key."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from edgeasd.common.config import (
    Config,
    FileConfig,
    MachineConfig,
    MicrophoneConfig,
    SimulatorConfig,
    SourceConfig,
)
from edgeasd.common.documents import DocumentError, read_table, refuse_unknown_keys
from edgeasd.common.errors import ConfigError
from edgeasd.common.files.small_file import read_small
from edgeasd.common.text import quoted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_PATH = Path("/etc/edgeasd/edgeasd.toml")

_T = TypeVar("_T")

_SOURCES: Mapping[str, type[SourceConfig]] = MappingProxyType(
    {"microphone": MicrophoneConfig, "file": FileConfig, "simulator": SimulatorConfig}
)


def load_config(path: Path) -> Config:
    """Read the configuration file at *path*.

    Relative paths in it are taken from its folder.

    Raises:
        ConfigError: If the file cannot be read, is not TOML, or has a key or value that is
            wrong; the message names it.
    """
    try:
        # With or without the byte order mark that editors on Windows may write.
        text = read_small(path).decode("utf-8-sig")
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc.strerror}); "
            "see deploy/edgeasd.example.toml for one to start from"
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is not UTF-8 text ({exc.reason} at byte {exc.start})") from exc
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """Return the configuration that the TOML document *text* describes.

    Args:
        text: The document.
        path: Where it stands, for messages and relative paths.

    Raises:
        ConfigError: As `load_config`.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        # Beside its own TOMLDecodeError, a ValueError, the parser lets those of int() out.
        raise ConfigError(f"{path}: is not valid TOML: {exc}") from exc
    try:
        return _anchor(_read_config(document), path.parent)
    except DocumentError as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def _read_config(document: dict[str, Any]) -> Config:
    refuse_unknown_keys(document, [item.name for item in fields(Config)])
    tables = document.pop("machine", [])
    if not isinstance(tables, list) or not tables:
        raise DocumentError("needs at least one [[machine]] table")
    machines = tuple(_read_machine(table, f"machine[{i}]") for i, table in enumerate(tables))
    names = Counter(machine.name for machine in machines)
    for name, count in names.items():
        if count > 1:
            raise DocumentError(f"machine.name={quoted(name)} must be unique")
    config = read_table(Config, document, machine=machines)
    mqtt = config.mqtt
    if (mqtt.cert_file is None) != (mqtt.key_file is None):
        raise DocumentError("mqtt.cert_file and mqtt.key_file must be given together")
    if mqtt.cert_file is not None and mqtt.ca_file is None:
        raise DocumentError("mqtt.cert_file needs mqtt.ca_file, which switches TLS on")
    return config


def _read_machine(table: Any, where: str) -> MachineConfig:
    if not isinstance(table, dict):
        raise DocumentError(f"{where} must be a table, [[machine]]")
    # In the file the field `source` is one table of the source's kind.
    own = [item.name for item in fields(MachineConfig) if item.name != "source"]
    refuse_unknown_keys(table, [*own, *_SOURCES], where)
    kinds = [kind for kind in _SOURCES if kind in table]
    if len(kinds) > 1:
        raise DocumentError(f"{where} must have one source, not {' and '.join(kinds)}")
    source: SourceConfig = MicrophoneConfig()
    for kind in kinds:
        source = read_table(_SOURCES[kind], table.pop(kind), f"{where}.{kind}")
    machine = read_table(MachineConfig, table, where, source=source)
    alarm = machine.alarm
    if (
        alarm.threshold is not None
        and alarm.clear_threshold is not None
        and alarm.clear_threshold > alarm.threshold
    ):
        raise DocumentError(
            f"{where}.alarm.clear_threshold={alarm.clear_threshold:g} must be at most "
            f"threshold={alarm.threshold:g}"
        )
    return machine


def _anchor(table: _T, folder: Path) -> _T:
    """Return the dataclass *table* with every relative path in it taken from *folder*."""
    changed: dict[str, Any] = {}
    for item in fields(table):  # type: ignore[arg-type]
        value = getattr(table, item.name)
        if isinstance(value, Path):
            changed[item.name] = folder / value
        elif isinstance(value, tuple):
            changed[item.name] = tuple(_anchor(entry, folder) for entry in value)
        elif is_dataclass(value):
            changed[item.name] = _anchor(value, folder)
    return replace(table, **changed)  # type: ignore[type-var]


def find_machine(config_path: Path, name: str) -> MachineConfig:
    """Return the machine of the configuration that is called *name*.

    Raises:
        ConfigError: If there is none; the message gives the nearest one.
    """
    machines = {machine.name: machine for machine in load_config(config_path).machine}
    if name not in machines:
        near = difflib.get_close_matches(name, machines, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"machine={name!r} must be one of {', '.join(machines)}{hint}")
    return machines[name]
