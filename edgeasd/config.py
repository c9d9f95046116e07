"""The configuration file: one TOML document, every key with its default, unit and rule here.

``deploy/edgeasd.example.toml`` shows every key; a test holds the two together.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from edgeasd.document import (
    DocumentError,
    at_least,
    between,
    one_of,
    read_table,
    refuse_unknown_keys,
    rule,
)
from edgeasd.errors import ConfigError
from edgeasd.publish.topics import is_level

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_PATH = Path("/etc/edgeasd/edgeasd.toml")

_BASE_TOPIC = re.compile(r"(?!\$)[^\s\x00-\x1f\x7f+#/]+(/[^\s\x00-\x1f\x7f+#/]+)*")

_T = TypeVar("_T")

_LEVEL_NAME = rule(
    is_level,
    "1 to 64 letters, digits, '_', '.' or '-', as it becomes a level of an MQTT topic",
)


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Where alerts go."""

    host: str = field(default="localhost", metadata=rule(lambda value: value != "", "a name"))
    """Broker's host name or address."""
    port: int = field(default=1883, metadata=between(1, 65_535))
    """Broker's TCP port; 8883 is usual with TLS."""
    version: str = field(default="3.1.1", metadata=one_of("3.1.1", "5"))
    """Version of MQTT; with 5 the broker says which messages it refuses, and why."""
    base: str = field(
        default="",
        metadata=rule(
            lambda value: value == "" or _BASE_TOPIC.fullmatch(value) is not None,
            "topic levels joined by '/', without '+', '#', blanks, control characters or a "
            "'$' in front",
        ),
    )
    """Topic levels put before ``edgeasd/v1/...``, for example ``acme/plant1``."""
    username: str = ""
    """Broker account; empty connects anonymously."""
    password_file: Path | None = None
    """File whose first line is the password, for example a systemd credential."""
    ca_file: Path | None = None
    """PEM file of the authority that signed the broker's certificate; given, TLS is used."""
    cert_file: Path | None = None
    """PEM file of this node's certificate, where the broker asks for one."""
    key_file: Path | None = None
    """PEM file of this node's private key."""
    keepalive_s: int = field(default=30, metadata=between(5, 3600))
    """Seconds; a dead connection is noticed after about one and a half of them."""
    score_interval_s: float = field(default=1.0, metadata=at_least(1.0))
    """Seconds between two messages on a machine's score topic."""
    health_interval_s: float = field(default=60.0, metadata=at_least(1.0))
    """Seconds between two health messages when nothing changes."""


@dataclass(frozen=True, slots=True)
class MicrophoneConfig:
    """A sound input of this computer."""

    device: str = ""
    """What ``edgeasd devices`` calls it: socket (``usb:``), vendor, product and serial number
    (``usb-id:``), or a part of its name; empty takes the default input."""
    channel: int = field(default=0, metadata=between(0, 63))
    """Channel of the device, counted from 0."""
    sample_rate: int = field(
        default=0,
        metadata=rule(
            lambda value: value == 0 or value in range(8_000, 384_001),
            "0 or from 8000 to 384000",
        ),
    )
    """Hertz; 0 opens the device at its own rate.  Resampled to the model's rate."""
    latency_s: float = field(default=0.3, metadata=between(0.01, 5.0))
    """Seconds of sound that PortAudio buffers; more survives a busier computer."""


@dataclass(frozen=True, slots=True)
class FileConfig:
    """A recording in place of a microphone."""

    path: Path
    """WAV or FLAC file, any rate."""
    channel: int = field(default=0, metadata=between(0, 1023))
    """Channel of the file, counted from 0."""
    paced: bool = True
    """Whether to play in real time rather than as fast as possible."""
    repeat: bool = False
    """Whether to begin anew at the end of the file, without end."""


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """A simulated machine, to try things without any."""

    seed: int = field(default=1, metadata=at_least(0))
    """Same seed, same sound."""
    fault_after_s: float = field(default=30.0, metadata=at_least(0.0))
    """Seconds from the start until the fault is switched on."""
    fault_duration_s: float = field(default=30.0, metadata=at_least(0.0))
    """Seconds for which the fault lasts; 0 leaves the machine healthy."""
    paced: bool = True
    """Whether to play in real time rather than as fast as possible."""


SourceConfig = MicrophoneConfig | FileConfig | SimulatorConfig


@dataclass(frozen=True, slots=True)
class AlarmConfig:
    """When a score becomes an alarm.  A score comes every 256 ms."""

    threshold: float | None = None
    """Score at which the alarm is raised; by default the model's, for its section."""
    clear_threshold: float | None = None
    """Score below which the alarm may end; by default the model's, for its section."""
    raise_after: int = field(default=4, metadata=at_least(1))
    """Consecutive scores at or above the threshold that raise the alarm."""
    clear_after: int = field(default=8, metadata=at_least(1))
    """Consecutive scores below the clear threshold that end the alarm."""
    cool_down_s: float = field(default=30.0, metadata=at_least(0.0))
    """Seconds after an end in which no new alarm starts."""
    update_every_s: float = field(default=60.0, metadata=at_least(1.0))
    """Seconds between two updates while an alarm lasts."""


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """One machine: what listens to it, and what knows its normal sound."""

    name: str = field(metadata=_LEVEL_NAME)
    """Name in topics and payloads, unique on this node."""
    model: Path
    """Model file, as ``python -m train export`` makes it."""
    section: str = ""
    """Section of the model that this machine is; may stay empty if the model has one."""
    source: SourceConfig = field(default_factory=MicrophoneConfig)
    """One of the tables ``[machine.microphone]``, ``[machine.file]``, ``[machine.simulator]``."""
    alarm: AlarmConfig = field(default_factory=AlarmConfig)
    """The table ``[machine.alarm]``."""


@dataclass(frozen=True, slots=True)
class ClipsConfig:
    """The sound around the start of an alarm, kept on this computer."""

    enabled: bool = True
    """Whether to keep any: people near a machine can be heard in them."""
    directory: Path | None = None
    """Where they are kept; by default ``clips`` in the state directory."""
    before_s: float = field(default=20.0, metadata=between(0.0, 120.0))
    """Seconds kept from before the start; a score rests on the 10 s before it."""
    after_s: float = field(default=10.0, metadata=between(0.0, 120.0))
    """Seconds kept from after the start."""
    max_age_days: float = field(default=30.0, metadata=at_least(0.0))
    """Days after which a clip is removed."""
    max_size_mb: float = field(default=1000.0, metadata=at_least(1.0))
    """Megabytes that all clips together may take; beyond it the oldest are removed."""


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "edge"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    machine: tuple[MachineConfig, ...]
    """One table ``[[machine]]`` for each machine."""
    node: str = field(default_factory=_host_name, metadata=_LEVEL_NAME)
    """Name of this computer in topics and payloads; by default its host name."""
    state_dir: Path = Path("/var/lib/edgeasd")
    """Directory for what must outlive a restart: undelivered alerts."""
    log_level: str = field(default="info", metadata=one_of("debug", "info", "warning", "error"))
    """Least severity that is logged."""
    mqtt: MqttConfig = field(default_factory=MqttConfig)
    """The table ``[mqtt]``."""
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    """The table ``[clips]``."""

    @property
    def clips_dir(self) -> Path:
        """Where clips are kept."""
        return self.clips.directory or self.state_dir / "clips"


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
        text = path.read_text(encoding="utf-8-sig")
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
    names = [machine.name for machine in machines]
    for name in names:
        if names.count(name) > 1:
            raise DocumentError(f"machine.name={name!r} must be unique")
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
