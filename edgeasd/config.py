"""The configuration file: one TOML document, every key with its default, unit and rule here.

``deploy/edgeasd.example.toml`` shows every key; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from edgeasd.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_PATH = Path("/etc/edgeasd/edgeasd.toml")

_TOPIC_LEVEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BASE_TOPIC = re.compile(r"([^\s+#/$][^\s+#/]*)(/[^\s+#/]+)*")

_T = TypeVar("_T")
_Rule = Mapping[str, Any]
_MISSING = object()


def _rule(accepts: Callable[[Any], bool], text: str) -> _Rule:
    return MappingProxyType({"accepts": accepts, "text": text})


def _between(low: float, high: float) -> _Rule:
    return _rule(lambda value: low <= value <= high, f"from {low:g} to {high:g}")


def _at_least(low: float) -> _Rule:
    return _rule(lambda value: value >= low, f"at least {low:g}")


def _one_of(*values: str) -> _Rule:
    return _rule(lambda value: value in values, "one of " + ", ".join(values))


_LEVEL_NAME = _rule(
    lambda value: _TOPIC_LEVEL.fullmatch(value) is not None,
    "1 to 64 letters, digits, '_', '.' or '-', as it becomes a level of an MQTT topic",
)


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """Where alerts go."""

    host: str = "localhost"
    """Broker's host name or address."""
    port: int = field(default=1883, metadata=_between(1, 65_535))
    """Broker's TCP port; 8883 is usual with TLS."""
    base: str = field(
        default="",
        metadata=_rule(
            lambda value: value == "" or _BASE_TOPIC.fullmatch(value) is not None,
            "topic levels joined by '/', without '+', '#' or blanks",
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
    keepalive_s: int = field(default=30, metadata=_between(5, 3600))
    """Seconds; a dead connection is noticed after about one and a half of them."""
    score_interval_s: float = field(default=1.0, metadata=_at_least(1.0))
    """Seconds between two messages on a machine's score topic."""
    health_interval_s: float = field(default=60.0, metadata=_at_least(1.0))
    """Seconds between two health messages when nothing changes."""


@dataclass(frozen=True, slots=True)
class MicrophoneConfig:
    """A sound input of this computer."""

    device: str = ""
    """Name or part of the name as ``edgeasd devices`` lists it; empty takes the default input."""
    channel: int = field(default=0, metadata=_between(0, 63))
    """Channel of the device, counted from 0."""
    sample_rate: int = field(
        default=0,
        metadata=_rule(
            lambda value: value == 0 or 8_000 <= value <= 384_000, "0 or from 8000 to 384000"
        ),
    )
    """Hertz; 0 opens the device at its own rate.  Resampled to the model's rate."""
    latency_s: float = field(default=0.3, metadata=_between(0.01, 5.0))
    """Seconds of sound that PortAudio buffers; more survives a busier computer."""


@dataclass(frozen=True, slots=True)
class FileConfig:
    """A recording in place of a microphone."""

    path: Path
    """WAV or FLAC file, any rate."""
    channel: int = field(default=0, metadata=_between(0, 1023))
    """Channel of the file, counted from 0."""
    paced: bool = True
    """Whether to play in real time rather than as fast as possible."""


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """A simulated machine, to try things without any."""

    seed: int = field(default=1, metadata=_at_least(0))
    """Same seed, same sound."""
    fault_after_s: float = field(default=30.0, metadata=_at_least(0.0))
    """Seconds from the start until the fault is switched on."""
    fault_duration_s: float = field(default=30.0, metadata=_at_least(0.0))
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
    raise_after: int = field(default=4, metadata=_at_least(1))
    """Consecutive scores at or above the threshold that raise the alarm."""
    clear_after: int = field(default=8, metadata=_at_least(1))
    """Consecutive scores below the clear threshold that end the alarm."""
    cool_down_s: float = field(default=30.0, metadata=_at_least(0.0))
    """Seconds after an end in which no new alarm starts."""
    update_every_s: float = field(default=60.0, metadata=_at_least(1.0))
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
    log_level: str = field(default="info", metadata=_one_of("debug", "info", "warning", "error"))
    """Least severity that is logged."""
    mqtt: MqttConfig = field(default_factory=MqttConfig)
    """The table ``[mqtt]``."""


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
        text = path.read_text(encoding="utf-8")
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
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: is not valid TOML: {exc}") from exc
    return _Reader(path).config(document)


class _Reader:
    """Turns tables into dataclasses, and every mistake into one message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def config(self, document: dict[str, Any]) -> Config:
        tables = document.pop("machine", [])
        if not isinstance(tables, list) or not tables:
            raise self._error("needs at least one [[machine]] table")
        machines = tuple(
            self._machine(table, f"machine[{index}]") for index, table in enumerate(tables)
        )
        names = [machine.name for machine in machines]
        for name in names:
            if names.count(name) > 1:
                raise self._error(f"machine.name={name!r} must be unique")
        config = self._table(Config, document, "", machine=machines)
        mqtt = config.mqtt
        if (mqtt.cert_file is None) != (mqtt.key_file is None):
            raise self._error("mqtt.cert_file and mqtt.key_file must be given together")
        if mqtt.cert_file is not None and mqtt.ca_file is None:
            raise self._error("mqtt.cert_file needs mqtt.ca_file, which switches TLS on")
        return config

    def _machine(self, table: Any, where: str) -> MachineConfig:
        if not isinstance(table, dict):
            raise self._error(f"{where} must be a table, [[machine]]")
        kinds = [kind for kind in _SOURCES if kind in table]
        if len(kinds) > 1:
            raise self._error(
                f"{where} has more than one source ({', '.join(kinds)}); keep one of them"
            )
        if "source" in table:
            raise self._error(
                f"{where}.source must be a table named after its kind: "
                + ", ".join(f"[machine.{kind}]" for kind in _SOURCES)
            )
        given: dict[str, Any] = {}
        for kind in kinds:
            given["source"] = self._table(_SOURCES[kind], table.pop(kind), f"{where}.{kind}")
        machine = self._table(MachineConfig, table, where, also_known=tuple(_SOURCES), **given)
        alarm = machine.alarm
        if (
            alarm.threshold is not None
            and alarm.clear_threshold is not None
            and alarm.clear_threshold > alarm.threshold
        ):
            raise self._error(
                f"{where}.alarm.clear_threshold={alarm.clear_threshold:g} must be at most "
                f"threshold={alarm.threshold:g}"
            )
        return machine

    def _table(
        self,
        cls: type[_T],
        table: Any,
        where: str,
        also_known: tuple[str, ...] = (),
        **given: Any,
    ) -> _T:
        if not isinstance(table, dict):
            raise self._error(f"{where} must be a table")
        hints = get_type_hints(cls)
        fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in table:
            if key not in fields or key in given:
                raise self._unknown(_join(where, key), [*fields, *also_known])
        values = dict(given)
        for name, item in fields.items():
            if name in table:
                values[name] = self._value(hints[name], table[name], _join(where, name), item)
            elif name not in given and _default(item) is _MISSING:
                raise self._error(f"{_join(where, name)} is missing")
        return cls(**values)

    def _value(self, hint: Any, value: Any, name: str, item: dataclasses.Field[Any]) -> Any:
        if dataclasses.is_dataclass(hint):
            return self._table(hint, value, name)
        expected, accepts, convert = _TYPES[hint]
        if not accepts(value):
            raise self._error(f"{name}={value!r} must be {expected}")
        if "accepts" in item.metadata and not item.metadata["accepts"](value):
            raise self._error(f"{name}={value!r} must be {item.metadata['text']}")
        converted = convert(value)
        return self._path.parent / converted if isinstance(converted, Path) else converted

    def _unknown(self, name: str, known: list[str]) -> ConfigError:
        near = difflib.get_close_matches(name.rpartition(".")[2], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
        return self._error(f"unknown key {name!r}{hint}")

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"{self._path}: {message}")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    return _MISSING if item.default_factory is dataclasses.MISSING else item.default_factory()


def _is_number(value: Any) -> bool:
    # TOML knows inf and nan; no setting here means anything by them.
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


_NUMBER = ("a number", _is_number, float)
_PATH = ("a path", _is_path, Path)
_TYPES: Mapping[Any, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = MappingProxyType(
    {
        str: ("a string", lambda value: isinstance(value, str), str),
        bool: ("true or false", lambda value: isinstance(value, bool), bool),
        int: (
            "a whole number",
            lambda value: isinstance(value, int) and not isinstance(value, bool),
            int,
        ),
        float: _NUMBER,
        float | None: _NUMBER,
        Path: _PATH,
        Path | None: _PATH,
    }
)
