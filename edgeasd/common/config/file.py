"""Reads the configuration file, one TOML document, and tells every mistake in it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from edgeasd.common.config.keys import Config, MachineConfig, is_level
from edgeasd.common.documents.mistakes import Place, nearest
from edgeasd.common.documents.reading import DocumentError, read_table
from edgeasd.common.errors import ConfigError
from edgeasd.common.files.small_file import read_small

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_PATH = Path("/etc/edgeasd/edgeasd.toml")


def load_config(path: Path) -> Config:
    """Read the configuration file at *path*.

    Relative paths in it are taken from its folder.

    Raises:
        ConfigError: If the file cannot be read, is not TOML, or has keys or values that are
            wrong; each line names one.
    """
    try:
        # Editors on Windows may begin the file with a byte order mark.
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
        path: Path of the file, for messages and relative paths.

    Raises:
        ConfigError: If *text* is not TOML, or a key or value in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        # Not only TOMLDecodeError: the parser also raises what int() and datetime raise.
        raise ConfigError(f"{path}: is not valid TOML: {exc}") from exc
    # The rule for an empty list tells what is needed, whatever else stands there.
    if not isinstance(document.get("machine"), list):
        document["machine"] = []
    try:
        return read_table(Config, document, folder=path.parent, called=_machine_names(document))
    except DocumentError as exc:
        raise ConfigError(*(f"{path}: {line}" for line in exc.lines)) from exc


def _machine_names(document: dict[str, Any]) -> dict[Place, str]:
    """Return what messages call the machine tables that have valid names of their own."""
    names = [
        table.get("name") if isinstance(table, dict) else None for table in document["machine"]
    ]
    usable = [name for name in names if isinstance(name, str) and is_level(name)]
    counts = Counter(usable)
    return {
        ("machine", index): f"machine {name!r}"
        for index, name in enumerate(names)
        if isinstance(name, str) and counts[name] == 1
    }


def find_machine(config_path: Path, name: str) -> MachineConfig:
    """Return the machine of the configuration that is called *name*.

    Raises:
        ConfigError: If there is none; the message gives the nearest one.
    """
    machines = {machine.name: machine for machine in load_config(config_path).machine}
    if name not in machines:
        near = nearest(name, machines)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigError(f"machine={name!r} must be one of {', '.join(machines)}{hint}")
    return machines[name]
